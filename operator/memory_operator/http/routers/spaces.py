"""Spaces: listed, watched, activated, pruned."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from memory_operator.engine.admin.spaces import Overview, SpaceView
from memory_operator.http.auth.base import ACTIVATE, JOBS
from memory_operator.http.auth.permissions import Known, actor, namespaces_with, readable, require, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.routers.consent import held_answer
from memory_operator.http.routers.jobs import job_answer
from memory_operator.http.schemas.answers import (
    ActivatedAnswer,
    CreateEnabledAnswer,
    DeactivatedAnswer,
    PrunedAnswer,
    PrunedSpaceAnswer,
    SpaceAnswer,
    SpacesAnswer,
    StatusAnswer,
    WaitingAnswer,
)
from memory_operator.http.schemas.bodies import ActivateBody, CreateEnabledBody, NoBody, PruneBody, read

router = APIRouter(prefix="/v1", tags=["embeddings"])


@router.get("/embeddings/spaces", responses=responses(SpacesAnswer))
async def spaces(request: Request, identity: Known) -> Response:
    """Every space with its figures."""
    visible = await readable(request, identity)
    catalog = services_of(request).catalog
    return reply(
        SpacesAnswer(
            spaces=[space_answer(view) for view in await catalog.spaces() if view.space.ref.namespace in visible],
            without_space=[
                WaitingAnswer(provider=str(each.ref), phase=each.phase, reason=each.reason, message=each.message)
                for each in await catalog.without_space()
                if each.ref.namespace in visible
            ],
        )
    )


@router.get("/embeddings/status", responses=responses(StatusAnswer))
async def status(request: Request, identity: Known) -> Response:
    """Totals, the active space, fills with rate and ETA, held changes."""
    visible = await readable(request, identity)
    return reply(_status(await services_of(request).catalog.overview(), visible))


@router.post(
    "/embeddings/activate",
    responses=responses(ActivatedAnswer, 200, 404, 409),
    openapi_extra=request_body(ActivateBody),
)
async def activate(
    request: Request, identity: Known, body: Annotated[ActivateBody, Depends(read(ActivateBody))]
) -> Response:
    """Let queries read another space; refused with the figures while it covers less than 0.99, unless forced."""
    catalog = services_of(request).catalog
    if body.provider is not None:
        namespace: str | None = body.provider.partition("/")[0]
    else:
        namespace = await catalog.namespace_of(body.embedding_version or "")
    await require(request, identity, ACTIVATE, namespace)
    view = await catalog.activate(body.embedding_version, body.provider, body.force, actor(request, identity))
    return reply(ActivatedAnswer(embedding_version=view.space.embedding_version, space=space_answer(view)))


@router.post(
    "/embeddings/deactivate", responses=responses(DeactivatedAnswer), openapi_extra=request_body(NoBody, required=False)
)
async def deactivate(
    request: Request, identity: Known, body: Annotated[NoBody, Depends(read(NoBody, may_be_empty=True))]
) -> Response:
    """Let queries answer from full-text alone; every vector stays."""
    catalog = services_of(request).catalog
    await require(request, identity, ACTIVATE, await catalog.namespace_of_active())
    await catalog.deactivate(actor(request, identity))
    return reply(DeactivatedAnswer())


@router.post(
    "/embeddings/create-enabled",
    responses=responses(CreateEnabledAnswer, 200, 404),
    openapi_extra=request_body(CreateEnabledBody),
)
async def create_enabled(
    request: Request, identity: Known, body: Annotated[CreateEnabledBody, Depends(read(CreateEnabledBody))]
) -> Response:
    """Let new memories be embedded for a space, or not, until its Provider says otherwise."""
    catalog = services_of(request).catalog
    await require(request, identity, ACTIVATE, await catalog.namespace_of(body.embedding_version))
    view = await catalog.set_create_enabled(body.embedding_version, body.enabled, actor(request, identity))
    return reply(
        CreateEnabledAnswer(
            status="enabled" if view.space.create_enabled else "disabled",
            embedding_version=view.space.embedding_version,
            space=space_answer(view),
        )
    )


@router.post(
    "/prune-embeddings", responses=responses(PrunedAnswer), openapi_extra=request_body(PruneBody, required=False)
)
async def prune(
    request: Request, identity: Known, body: Annotated[PruneBody, Depends(read(PruneBody, may_be_empty=True))]
) -> Response:
    """Remove orphaned and retired spaces of the namespaces where the caller may; with `dry_run`, say which ones."""
    catalog = services_of(request).catalog
    allowed = await namespaces_with(request, identity, JOBS, await catalog.namespaces())
    pruned = await catalog.prune(allowed, body.dry_run, actor(request, identity))
    return reply(
        PrunedAnswer(dry_run=body.dry_run, spaces=[PrunedSpaceAnswer.model_validate(space) for space in pruned])
    )


def space_answer(view: SpaceView) -> SpaceAnswer:
    """One space as the API shows it."""
    space = view.space
    return SpaceAnswer.model_validate(
        {
            "embedding_version": space.embedding_version,
            "provider": str(space.ref),
            "type": space.config.type,
            "model": space.config.model or None,
            "dimensions": space.dimensions,
            "column_type": space.column_type,
            "distance": space.distance,
            "state": space.state,
            **asdict(view.figures),
            "coverage": view.coverage,
            "create_enabled": space.create_enabled,
            "created_at": space.created_at,
        }
    )


def _status(overview: Overview, visible: frozenset[str]) -> StatusAnswer:
    views = [view for view in overview.views if view.space.ref.namespace in visible]
    shown = {view.space.embedding_version for view in views}
    active = next((view for view in views if view.figures.active), None)
    return StatusAnswer(
        semantic_status=overview.semantic_status,
        chunks=overview.chunks,
        active=space_answer(active) if active else None,
        spaces=[space_answer(view) for view in views],
        jobs=[
            job_answer(view)
            for view in overview.jobs
            if view.named.embedding_version in shown or view.named.ref is None
        ],
        held=[held_answer(change) for change in overview.held if change.ref.namespace in visible],
    )
