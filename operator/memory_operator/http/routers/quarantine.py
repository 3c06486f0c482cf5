"""Chunks that embedders refuse: listed with the reason, and tried once more."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from memory_operator.http.auth.base import JOBS
from memory_operator.http.auth.permissions import (
    Known,
    actor,
    namespaces_with,
    readable,
    services_of,
    tenant_told_of,
)
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.base import Name
from memory_operator.http.schemas.quarantine import (
    QuarantineAnswer,
    QuarantinedAnswer,
    QuarantineId,
    RetriedAnswer,
    RetryBody,
    chunk_and_space,
)
from memory_operator.http.schemas.reading import read

router = APIRouter(prefix="/v1/embeddings/quarantine", tags=["embeddings"])


@router.get("", responses=responses(QuarantineAnswer))
async def listed(
    request: Request,
    identity: Known,
    embedding_version: Annotated[Name | None, Query(description="Only of this space.")] = None,
    before: Annotated[QuarantineId | None, Query(description="Only older ones than this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> Response:
    """Chunks that embedders refuse, with the reason: the caller's own.

    For those who may begin jobs in all namespaces, everybody's.
    """
    visible = await readable(request, identity)
    tenant = await tenant_told_of(request, identity)
    last = chunk_and_space(before) if before else None
    found = await services_of(request).jobs.quarantined(visible, tenant, embedding_version, last, limit)
    shown = [QuarantinedAnswer.of(each) for each in found]
    return reply(QuarantineAnswer(quarantined=shown, next_before=shown[-1].id if len(shown) == limit else None))


@router.post("/retry", responses=responses(RetriedAnswer), openapi_extra=request_body(RetryBody))
async def retry(request: Request, identity: Known, body: Annotated[RetryBody, Depends(read(RetryBody))]) -> Response:
    """Let refused chunks be tried once more, now; /v1/reembed does so with all of them."""
    services = services_of(request)
    allowed = await namespaces_with(request, identity, JOBS, await services.catalog.namespaces())
    tenant = await tenant_told_of(request, identity)
    chosen = [chunk_and_space(each) for each in body.ids]
    return reply(RetriedAnswer(retried=await services.jobs.retry(chosen, allowed, tenant, actor(request, identity))))
