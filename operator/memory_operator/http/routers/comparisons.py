"""Spaces compared by questions, and models rehearsed on a sample before a space is changed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from memory_operator.http.auth.base import JOBS, READ, READ_MEMORIES, Identity
from memory_operator.http.auth.permissions import actor, permitted, require, require_in_all, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.base import NoBody
from memory_operator.http.schemas.comparisons import (
    CompareBody,
    ComparedAnswer,
    RehearsalAnswer,
    RehearsalsAnswer,
    RehearseAnswer,
    RehearseBody,
)
from memory_operator.http.schemas.reading import read

router = APIRouter(prefix="/v1/embeddings", tags=["embeddings"])

Reader = Annotated[Identity, Depends(permitted(READ_MEMORIES))]
RehearsalId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Number of the rehearsal.")]


@router.post("/compare", responses=responses(ComparedAnswer, 200, 404, 409), openapi_extra=request_body(CompareBody))
async def compare(
    request: Request, identity: Reader, body: Annotated[CompareBody, Depends(read(CompareBody))]
) -> Response:
    """Let two spaces, or a space and a rehearsal, answer the same questions; nothing is changed.

    Where one lacks chunks that the other has, both look at those that both have. The questions are embedded by both
    models, which is metered with the purpose `compare`.
    """
    comparer = services_of(request).comparer
    await require_in_all(request, identity, READ, await comparer.namespaces((body.first, body.second)))
    compared = await comparer.compared(identity.tenant, (body.first, body.second), body.project)
    drawn = await comparer.draw(compared, body.draw.count, body.draw.seed) if body.draw else []
    answers = await comparer.ask(compared, body.wanted(), body.k) if body.questions else []
    return reply(ComparedAnswer.of(compared, drawn, answers))


@router.get("/rehearsals", responses=responses(RehearsalsAnswer))
async def rehearsals(request: Request, identity: Reader) -> Response:
    """The caller's own that have not expired."""
    found = await services_of(request).rehearsals.all_open(identity.tenant)
    return reply(RehearsalsAnswer(rehearsals=[RehearsalAnswer.of(each) for each in found]))


@router.post(
    "/rehearsals", responses=responses(RehearseAnswer, 200, 404, 409), openapi_extra=request_body(RehearseBody)
)
async def begin(
    request: Request, identity: Reader, body: Annotated[RehearseBody, Depends(read(RehearseBody))]
) -> Response:
    """Take a sample of the caller's chunks for another model of a Provider's vendor; with `dry_run`, say what it takes.

    It is embedded by POST …/{id}/fill, compared by its name, and dropped by DELETE, or 15 minutes after it was last
    worked with.
    """
    wanted, service = body.request(), services_of(request).rehearsals
    await require(request, identity, JOBS, wanted.provider.namespace)
    if body.dry_run:
        return reply(RehearseAnswer.of(await service.plan(identity.tenant, wanted), None))
    plan, begun = await service.begin(identity.tenant, wanted, actor(request, identity))
    return reply(RehearseAnswer.of(plan, begun))


@router.post(
    "/rehearsals/{id}/fill",
    responses=responses(RehearsalAnswer, 200, 404, 409),
    openapi_extra=request_body(NoBody, required=False),
    dependencies=[Depends(read(NoBody, may_be_empty=True))],
)
async def fill(request: Request, identity: Reader, id: RehearsalId) -> Response:  # noqa: A002 - the name in the path
    """Embed some seconds' worth of its sample; repeat it until all chunks are embedded."""
    service = services_of(request).rehearsals
    await require(request, identity, JOBS, (await service.get(identity.tenant, id)).space.ref.namespace)
    return reply(RehearsalAnswer.of(await service.fill(identity.tenant, id)))


@router.delete("/rehearsals/{id}", status_code=204, responses=responses(None, 204, 404))
async def drop(request: Request, identity: Reader, id: RehearsalId) -> Response:  # noqa: A002 - the name in the path
    """Remove a rehearsal with its vectors."""
    service = services_of(request).rehearsals
    await require(request, identity, JOBS, (await service.get(identity.tenant, id)).space.ref.namespace)
    await service.drop(identity.tenant, id)
    return Response(status_code=204)
