"""Spaces: listed, watched, activated, pruned."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from memory_operator.engine.admin.spaces import Catalog
from memory_operator.http.auth.base import ACTIVATE, JOBS, READ_MEMORIES
from memory_operator.http.auth.permissions import Known, actor, namespaces_with, readable, require, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.base import Name, NoBody
from memory_operator.http.schemas.comparisons import RehearsalAnswer
from memory_operator.http.schemas.reading import read
from memory_operator.http.schemas.spaces import (
    ActivateBody,
    ActivatedAnswer,
    CreateEnabledAnswer,
    CreateEnabledBody,
    DeactivatedAnswer,
    ProjectCountsAnswer,
    PruneBody,
    PrunedAnswer,
    PrunedSpaceAnswer,
    SpaceAnswer,
    SpacesAnswer,
    StatusAnswer,
    WaitingAnswer,
)

router = APIRouter(prefix="/v1", tags=["embeddings"])


@router.get("/embeddings/spaces", responses=responses(SpacesAnswer, 200, 404))
async def spaces(
    request: Request,
    identity: Known,
    project: Annotated[Name | None, Query(description="Count what each space has of this project, too.")] = None,
) -> Response:
    """Every space with its figures."""
    visible = await readable(request, identity)
    catalog = services_of(request).catalog
    views = [view for view in await catalog.spaces() if view.space.ref.namespace in visible]
    counted = None
    if project is not None:
        await require(request, identity, READ_MEMORIES, identity.namespace)
        shown = {view.space.embedding_version for view in views}
        counted = ProjectCountsAnswer.of(await catalog.project_counts(identity.tenant, project), shown)
    without_space, not_applied = await catalog.waiting()
    tried = await services_of(request).rehearsals.all_open(identity.tenant)
    return reply(
        SpacesAnswer(
            spaces=[SpaceAnswer.of(view) for view in views],
            project=counted,
            selection_waits=catalog.selection_waits(),
            without_space=[WaitingAnswer.of(each) for each in without_space if each.ref.namespace in visible],
            not_applied=[WaitingAnswer.of(each) for each in not_applied if each.ref.namespace in visible],
            temporary=[RehearsalAnswer.of(each) for each in tried if each.space.ref.namespace in visible],
        )
    )


@router.get("/embeddings/status", responses=responses(StatusAnswer))
async def status(request: Request, identity: Known) -> Response:
    """Totals, the active space, fills with rate and ETA, held changes."""
    visible = await readable(request, identity)
    return reply(StatusAnswer.of(await services_of(request).catalog.overview(), visible, identity.tenant))


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
    await require(request, identity, ACTIVATE, await _namespace(catalog, body))
    view = await catalog.activate(body.embedding_version, body.provider, actor(request, identity), force=body.force)
    return reply(ActivatedAnswer(embedding_version=view.space.embedding_version, space=SpaceAnswer.of(view)))


async def _namespace(catalog: Catalog, body: ActivateBody | CreateEnabledBody) -> str | None:
    """Where the caller needs the permission for the space that is named; None: everywhere, as there is none."""
    if body.provider is not None:
        return body.provider.partition("/")[0]
    return await catalog.namespace_of(body.embedding_version or "")


@router.post(
    "/embeddings/deactivate",
    responses=responses(DeactivatedAnswer),
    openapi_extra=request_body(NoBody, required=False),
    dependencies=[Depends(read(NoBody, may_be_empty=True))],
)
async def deactivate(request: Request, identity: Known) -> Response:
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
    catalog, by = services_of(request).catalog, actor(request, identity)
    await require(request, identity, ACTIVATE, await _namespace(catalog, body))
    view = await catalog.set_create_enabled(body.embedding_version, body.provider, by, enabled=body.enabled)
    return reply(
        CreateEnabledAnswer(
            status="enabled" if view.space.create_enabled else "disabled",
            embedding_version=view.space.embedding_version,
            space=SpaceAnswer.of(view),
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
    pruned = await catalog.prune(allowed, actor(request, identity), dry_run=body.dry_run)
    return reply(
        PrunedAnswer(dry_run=body.dry_run, spaces=[PrunedSpaceAnswer.model_validate(space) for space in pruned])
    )
