"""Memories: added, found, read, changed, forgotten, purged."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from memory_operator.engine.remember import Changes, Memory
from memory_operator.engine.version import StoredMemory
from memory_operator.engine.writing import NewMemory
from memory_operator.http.auth import DELETE_MEMORIES, READ_MEMORIES, WRITE_MEMORIES
from memory_operator.http.bodies import ChangesBody, MemoryBody, QueryBody, documented, read
from memory_operator.http.documents import PROBLEMS, json_answer
from memory_operator.http.rights import actor, services_of, with_right
from memory_operator.store.search import Filters

router = APIRouter(prefix="/memory", tags=["memories"])


@router.post("/add", status_code=201, responses=PROBLEMS, openapi_extra=documented(MemoryBody))
async def add(request: Request, body: Annotated[MemoryBody, Depends(read(MemoryBody))]) -> Response:
    """Store a memory; it is embedded before the answer where the embedder answers in time, else `pending`."""
    identity = await with_right(request, WRITE_MEMORIES)
    memory = NewMemory(**{**body.model_dump(), "tags": tuple(body.tags)})
    stored = await services_of(request).remember.add(identity.tenant, memory, actor(request, identity))
    return json_answer(_stored(stored), 201)


@router.post("/query", responses=PROBLEMS, openapi_extra=documented(QueryBody))
async def query(request: Request, body: Annotated[QueryBody, Depends(read(QueryBody))]) -> Response:
    """Find memories by words and by meaning; an unknown project has none."""
    identity = await with_right(request, READ_MEMORIES)
    given = body.filters
    filters = (
        Filters(given.type, tuple(given.tags), given.source, given.created_after, given.created_before)
        if given
        else Filters()
    )
    answer = await services_of(request).recall.query(identity.tenant, body.project, body.query, body.k, filters)
    return json_answer({"results": [asdict(result) for result in answer.results], "diagnostics": answer.diagnostics})


@router.get("/{memory_id}", responses=PROBLEMS)
async def show(request: Request, memory_id: UUID) -> Response:
    """The current version of a memory."""
    identity = await with_right(request, READ_MEMORIES)
    shown = await services_of(request).remember.show(identity.tenant, memory_id)
    status = {"embedding_version": shown.embedding_version, "embedding_status": shown.embedding_status}
    return json_answer({**_memory(shown.memory), **status, "chunks": shown.chunks})


@router.patch("/{memory_id}", responses=PROBLEMS, openapi_extra=documented(ChangesBody))
async def amend(
    request: Request, memory_id: UUID, body: Annotated[ChangesBody, Depends(read(ChangesBody))]
) -> Response:
    """Store a new version of a memory; the old one stays in its history."""
    identity = await with_right(request, WRITE_MEMORIES)
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "tags" in given:
        given["tags"] = tuple(given["tags"])
    changes = Changes(**given)  # type: ignore[typeddict-item] # the body's fields are those of Changes
    stored = await services_of(request).remember.amend(identity.tenant, memory_id, changes, actor(request, identity))
    return json_answer(_stored(stored))


@router.delete(
    "/{memory_id}",
    status_code=204,
    responses={**PROBLEMS, 200: {"description": "Purged: what was erased", "content": {"application/json": {}}}},
)
async def forget(
    request: Request,
    memory_id: UUID,
    purge: Annotated[bool, Query(description="Erase text, chunks and vectors of every version.")] = False,
) -> Response:
    """Forget a memory: it is found no more, and its history stays unless it is purged."""
    identity = await with_right(request, DELETE_MEMORIES)
    remember, by = services_of(request).remember, actor(request, identity)
    if not purge:
        await remember.forget(identity.tenant, memory_id, by)
        return Response(status_code=204)
    erased = await remember.purge(identity.tenant, memory_id, by)
    return json_answer({"status": "purged", "id": memory_id, "erased": asdict(erased)})


@router.get("/{memory_id}/history", responses=PROBLEMS)
async def history(
    request: Request,
    memory_id: UUID,
    before_version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only older versions.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> Response:
    """All versions of a memory, tombstones too, newest first."""
    identity = await with_right(request, READ_MEMORIES)
    versions = await services_of(request).remember.history(identity.tenant, memory_id, before_version, limit)
    following = versions[-1].version_no if len(versions) == limit else None
    return json_answer({"versions": [_memory(version) for version in versions], "next_before_version": following})


def _memory(memory: Memory) -> dict[str, Any]:
    shown = asdict(memory)
    shown["cost"] = None if memory.cost is None else str(memory.cost)
    return shown


def _stored(stored: StoredMemory) -> dict[str, Any]:
    shown = asdict(stored)
    shown["cost"] = None if stored.cost is None else str(stored.cost)
    return shown
