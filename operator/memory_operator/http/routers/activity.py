"""What happened, and how much there is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from memory_operator.http.auth.base import READ, READ_MEMORIES, Identity
from memory_operator.http.auth.permissions import Known, permitted, require, services_of
from memory_operator.http.openapi.document import reply, responses
from memory_operator.http.schemas.activity import ActivitiesAnswer, ActivityAnswer, ProjectAnswer, StatsAnswer

router = APIRouter(tags=["history"])


@router.get("/activity", responses=responses(ActivitiesAnswer))
async def activity(
    request: Request,
    identity: Known,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only older entries than this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> Response:
    """What happened: consents, activations, changes, purges, with who, when and from where.

    It is about all tenants, so that it needs the right to read Providers in all namespaces.
    """
    await require(request, identity, READ, None)
    entries = await services_of(request).catalog.activity(before, limit)
    following = entries[-1].id if len(entries) == limit else None
    return reply(
        ActivitiesAnswer(activities=[ActivityAnswer.model_validate(entry) for entry in entries], next_before=following)
    )


@router.get("/v1/stats", responses=responses(StatsAnswer))
async def stats(request: Request, identity: Annotated[Identity, Depends(permitted(READ_MEMORIES))]) -> Response:
    """How many memories the caller's tenant has, by project, and what the whole store holds."""
    counts = await services_of(request).catalog.counts(identity.tenant)
    return reply(
        StatsAnswer(
            memories=sum(counts.projects.values()),
            projects=[ProjectAnswer(project=name, memories=count) for name, count in counts.projects.items()],
            chunks=counts.chunks,
            vectors=counts.vectors,
            spaces=counts.spaces,
            held=counts.held,
        )
    )
