"""Memories: added, found, read, changed, forgotten, purged."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from memory_operator.engine.memories.prepare import NewMemory
from memory_operator.engine.memories.remember import Changes
from memory_operator.http.auth.base import DELETE_MEMORIES, READ, READ_MEMORIES, WRITE_MEMORIES, Identity
from memory_operator.http.auth.permissions import actor, permitted, require, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.problems import Problem
from memory_operator.http.schemas.base import Name
from memory_operator.http.schemas.memories import (
    ChangesBody,
    ErasedAnswer,
    HistoryAnswer,
    IdBeginning,
    MemoriesAnswer,
    MemoryAnswer,
    MemoryBody,
    PurgedAnswer,
    StoredAnswer,
    VersionAnswer,
    ids_beginning,
)
from memory_operator.http.schemas.query import FiltersBody, QueryAnswer, QueryBody
from memory_operator.http.schemas.reading import read
from memory_operator.memory.attributes import PlainAttributes

router = APIRouter(prefix="/memory", tags=["memories"])
lists = APIRouter(prefix="/v1", tags=["memories"])

Writer = Annotated[Identity, Depends(permitted(WRITE_MEMORIES))]
Reader = Annotated[Identity, Depends(permitted(READ_MEMORIES))]
Deleter = Annotated[Identity, Depends(permitted(DELETE_MEMORIES))]
MemoryId = Annotated[UUID, Path(description="Id of the memory.")]


@router.post("/add", status_code=201, responses=responses(StoredAnswer, 201), openapi_extra=request_body(MemoryBody))
async def add(request: Request, identity: Writer, body: Annotated[MemoryBody, Depends(read(MemoryBody))]) -> Response:
    """Store a memory; it is embedded before the answer where the embedder answers in time, else `pending`."""
    memory = NewMemory(body.text, body.project, PlainAttributes(**body.given()))
    stored = await services_of(request).remember.add(identity.tenant, memory, actor(request, identity))
    return reply(StoredAnswer.model_validate(stored), 201)


@router.post("/query", responses=responses(QueryAnswer, 200, 404, 409), openapi_extra=request_body(QueryBody))
async def query(request: Request, identity: Reader, body: Annotated[QueryBody, Depends(read(QueryBody))]) -> Response:
    """Find memories by words and by meaning; an unknown project has none.

    Whoever names a Provider to send texts to must be permitted to look at it.
    """
    if body.rerank and body.rerank.ref:
        await require(request, identity, READ, body.rerank.ref.namespace)
    filters = (body.filters or FiltersBody()).filters()
    recall = services_of(request).recall
    found = await recall.query(identity.tenant, body.project, body.query, body.k, filters, body.options())
    return reply(QueryAnswer.of(found))


@lists.get("/memories", responses=responses(MemoriesAnswer))
async def listed(
    request: Request,
    identity: Reader,
    project: Annotated[Name | None, Query(description="Only this project; all of them if left out.")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="What the page before said.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most; long ones make a page shorter.")] = 50,
    beginning: Annotated[
        IdBeginning | None,
        Query(alias="id", description="Only those whose id begins so; four characters or more."),
    ] = None,
) -> Response:
    """The tenant's memories as their authors wrote them, newest first: page by page this is an export."""
    between = ids_beginning(beginning) if beginning else None
    found, following = await services_of(request).remember.page(identity.tenant, project, before, limit, between)
    return reply(MemoriesAnswer(memories=[VersionAnswer.of(memory) for memory in found], next_before=following))


@router.api_route("/add", methods=["GET", "PATCH", "DELETE"], include_in_schema=False)
@router.api_route("/query", methods=["GET", "PATCH", "DELETE"], include_in_schema=False)
async def only_post(request: Request) -> Response:
    """What stands for no memory is not taken for the id of one."""
    text = f"this route does not take {request.method}"
    raise Problem(405, "method_not_allowed", text, hint="POST a JSON object to it", headers={"Allow": "POST"})


@router.get("/{memory_id}", responses=responses(MemoryAnswer, 200, 404))
async def show(request: Request, identity: Reader, memory_id: MemoryId) -> Response:
    """The current version of a memory."""
    shown = await services_of(request).remember.show(identity.tenant, memory_id)
    return reply(MemoryAnswer.of_shown(shown))


@router.patch("/{memory_id}", responses=responses(StoredAnswer, 200, 404, 409), openapi_extra=request_body(ChangesBody))
async def amend(
    request: Request,
    identity: Writer,
    memory_id: MemoryId,
    body: Annotated[ChangesBody, Depends(read(ChangesBody))],
) -> Response:
    """Store a new version of a memory; the old one stays in its history."""
    changes = Changes(body.text or None, body.given())
    stored = await services_of(request).remember.amend(identity.tenant, memory_id, changes, actor(request, identity))
    return reply(StoredAnswer.model_validate(stored))


@router.delete("/{memory_id}", status_code=204, responses=responses(PurgedAnswer, 200, 404))
async def forget(
    request: Request,
    identity: Deleter,
    memory_id: MemoryId,
    *,
    purge: Annotated[bool, Query(description="Erase text, chunks and vectors of every version.")] = False,
) -> Response:
    """Forget a memory: it is found no more, and its history stays unless it is purged."""
    remember, by = services_of(request).remember, actor(request, identity)
    if not purge:
        await remember.forget(identity.tenant, memory_id, by)
        return Response(status_code=204)
    erased = await remember.purge(identity.tenant, memory_id, by)
    return reply(PurgedAnswer(id=memory_id, erased=ErasedAnswer.model_validate(erased)))


@router.get("/{memory_id}/history", responses=responses(HistoryAnswer, 200, 404))
async def history(
    request: Request,
    identity: Reader,
    memory_id: MemoryId,
    before_version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only older versions.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> Response:
    """All versions of a memory, tombstones too, newest first."""
    versions = await services_of(request).remember.history(identity.tenant, memory_id, before_version, limit)
    following = versions[-1].version_no if len(versions) == limit else None
    shown = [VersionAnswer.of(version) for version in versions]
    return reply(HistoryAnswer(versions=shown, next_before_version=following))
