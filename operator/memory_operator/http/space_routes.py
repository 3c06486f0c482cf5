"""Spaces: listed, watched, activated, pruned; and what happened."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from memory_operator.engine.catalog import Overview, Progress, SpaceView
from memory_operator.http.auth import ACTIVATE, JOBS, LOOK, Identity, Right
from memory_operator.http.bodies import ActivateBody, CreateEnabledBody, PruneBody, documented, read
from memory_operator.http.consent_routes import held_document
from memory_operator.http.documents import PROBLEMS, json_answer
from memory_operator.http.rights import actor, demand, identify, services_of, with_right
from memory_operator.store import activity

router = APIRouter(prefix="/v1", tags=["embeddings"])
history = APIRouter(tags=["embeddings"])


@router.get("/embeddings/spaces", responses=PROBLEMS)
async def spaces(request: Request) -> Response:
    """Every space with its figures."""
    await with_right(request, LOOK)
    views = await services_of(request).catalog.spaces()
    return json_answer({"spaces": [space_document(view) for view in views]})


@router.get("/embeddings/status", responses=PROBLEMS)
async def status(request: Request) -> Response:
    """Totals, the active space, fills with rate and ETA, held changes."""
    await with_right(request, LOOK)
    return json_answer(_overview(await services_of(request).catalog.overview()))


@router.post("/embeddings/activate", responses=PROBLEMS, openapi_extra=documented(ActivateBody))
async def activate(request: Request, body: Annotated[ActivateBody, Depends(read(ActivateBody))]) -> Response:
    """Let queries read another space; refused with the figures while it covers less than 0.99, unless forced."""
    identity = await identify(request)
    await _demand_for_space(request, identity, ACTIVATE, body.embedding_version, body.provider)
    view = await services_of(request).catalog.activate(
        body.embedding_version, body.provider, body.force, actor(request, identity)
    )
    return json_answer({"status": "activated", "space": space_document(view)})


@router.post("/embeddings/deactivate", responses=PROBLEMS)
async def deactivate(request: Request) -> Response:
    """Let queries answer from full-text alone; every vector stays."""
    identity = await identify(request)
    await demand(request, identity, ACTIVATE, None)
    await services_of(request).catalog.deactivate(actor(request, identity))
    return json_answer({"status": "deactivated"})


@router.post("/embeddings/create-enabled", responses=PROBLEMS, openapi_extra=documented(CreateEnabledBody))
async def create_enabled(
    request: Request, body: Annotated[CreateEnabledBody, Depends(read(CreateEnabledBody))]
) -> Response:
    """Let new memories be embedded for a space, or not."""
    identity = await identify(request)
    await _demand_for_space(request, identity, ACTIVATE, body.embedding_version, None)
    view = await services_of(request).catalog.set_create_enabled(
        body.embedding_version, body.enabled, actor(request, identity)
    )
    return json_answer({"status": "ok", "space": space_document(view)})


@router.post("/prune-embeddings", responses=PROBLEMS, openapi_extra=documented(PruneBody, required=False))
async def prune(request: Request, body: Annotated[PruneBody, Depends(read(PruneBody, may_be_empty=True))]) -> Response:
    """Remove orphaned and retired spaces; with `dry_run`, say which ones."""
    identity = await identify(request)
    await demand(request, identity, JOBS, None)
    pruned = await services_of(request).catalog.prune(body.dry_run, actor(request, identity))
    return json_answer({"dry_run": body.dry_run, "spaces": [asdict(space) for space in pruned]})


@router.get("/jobs", responses=PROBLEMS)
async def jobs(request: Request) -> Response:
    """The newest fill of each space."""
    await with_right(request, LOOK)
    overview = await services_of(request).catalog.overview()
    return json_answer({"jobs": [_job(progress) for progress in overview.fills]})


@router.get("/stats", responses=PROBLEMS)
async def stats(request: Request) -> Response:
    """Counts."""
    await with_right(request, LOOK)
    overview = await services_of(request).catalog.overview()
    return json_answer({"chunks": overview.chunks, "spaces": len(overview.views), "held": len(overview.held)})


@history.get("/activity", responses=PROBLEMS)
async def activities(
    request: Request,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only older entries than this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> Response:
    """What happened: consents, activations, changes, purges, with who, when and from where."""
    identity = await identify(request)
    await demand(request, identity, LOOK, None)
    async with services_of(request).store.connection() as conn:
        entries = await activity.page(conn, before, limit)
    following = entries[-1].id if len(entries) == limit else None
    return json_answer({"activities": [asdict(entry) for entry in entries], "next_before": following})


def space_document(view: SpaceView) -> dict[str, Any]:
    """One space as the API shows it; no credential, no header, no prefix."""
    space = view.space
    return {
        "embedding_version": space.embedding_version,
        "provider": str(space.ref),
        "type": space.config.type,
        "model": space.config.model or None,
        "dimensions": space.dimensions,
        "column_type": space.column_type,
        "distance": space.distance,
        "state": space.state,
        "active": view.active,
        "vectors": view.vectors,
        "chunks": view.chunks,
        "coverage": round(view.coverage, 6),
        "quarantined": view.quarantined,
        "pending": view.pending,
        "create_enabled": space.create_enabled,
        "trouble": view.trouble,
        "created_at": space.created_at,
    }


async def _demand_for_space(
    request: Request, identity: Identity, right: Right, embedding_version: str | None, provider: str | None
) -> None:
    """A right in the namespace of the Provider that a space belongs to; of all where there is no such space."""
    if provider is None:
        views = await services_of(request).catalog.spaces()
        owners = [str(view.space.ref) for view in views if view.space.embedding_version == embedding_version]
        provider = owners[0] if owners else None
    await demand(request, identity, right, provider.partition("/")[0] if provider else None)


def _overview(overview: Overview) -> dict[str, Any]:
    active = next((view for view in overview.views if view.active), None)
    return {
        "chunks": overview.chunks,
        "active": space_document(active) if active else None,
        "semantic_status": _semantic_status(overview, active),
        "spaces": [space_document(view) for view in overview.views],
        "jobs": [_job(progress) for progress in overview.fills],
        "held": [held_document(change) for change in overview.held],
    }


def _semantic_status(overview: Overview, active: SpaceView | None) -> str:
    if active is None:
        return "disabled" if overview.registry.inactive_reason == "disabled" else "no_active_space"
    if active.trouble:
        return "embedder_unavailable"
    return "ok" if active.space.state == "ready" else "filling"


def _job(progress: Progress) -> dict[str, Any]:
    job = progress.job
    return {
        "id": job.id,
        "kind": "fill",
        "embedding_version": progress.embedding_version,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "rate": None if progress.rate is None else round(progress.rate, 1),
        "eta_seconds": progress.eta_seconds,
        "tokens": job.tokens,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
    }
