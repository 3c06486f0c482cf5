"""What was used and paid, and what Providers may still use."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator

from memory_operator.http.auth.permissions import Known, readable, services_of, tenant_told_of
from memory_operator.http.openapi.document import reply, responses
from memory_operator.http.problems import Problem
from memory_operator.http.schemas.usage import (
    QuotaAnswer,
    QuotasAnswer,
    UsageAnswer,
    UsageGroupAnswer,
    UsedTotalAnswer,
)
from memory_operator.store.usage.totals import GroupBy

router = APIRouter(prefix="/v1", tags=["usage"])


def _day(given: str) -> str:
    """Numbers are no days: left to itself, the reader of dates takes them for seconds since 1970."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", given):
        raise ValueError("a day is expected, as in 2026-01-31")
    return given


Day = Annotated[date, BeforeValidator(_day)]


@router.get("/usage", responses=responses(UsageAnswer))
async def usage(
    request: Request,
    identity: Known,
    since: Annotated[Day | None, Query(alias="from", description="First day, in UTC; 30 days if left out.")] = None,
    until: Annotated[Day | None, Query(alias="to", description="Last day, in UTC; today if left out.")] = None,
    group_by: Annotated[GroupBy, Query(description="What is added up.")] = "day",
) -> Response:
    """Calls to embedding vendors, their tokens and what they cost.

    It is about the caller's own tenant; for those who may begin jobs in all namespaces it is about everybody.
    """
    if since is not None and until is not None and since > until:
        raise Problem(400, "invalid_request", "from: is after to", hint="both days are part of the span")
    tenant = await tenant_told_of(request, identity)
    bill = await services_of(request).accounts.usage(group_by, since, until, tenant)
    return reply(
        UsageAnswer(
            since=bill.since,
            until=bill.until,
            group_by=group_by,
            tenant=tenant,
            groups=[UsageGroupAnswer(group=name, **asdict(used)) for name, used in bill.groups],
            total=UsedTotalAnswer(**asdict(bill.total)),
        )
    )


@router.get("/quotas", responses=responses(QuotasAnswer))
async def quotas(request: Request, identity: Known) -> Response:
    """Budget and limits of each Provider, what fills have used of them today, and what is left."""
    visible = await readable(request, identity)
    found = await services_of(request).accounts.quotas()
    return reply(QuotasAnswer(quotas=[QuotaAnswer.of(quota) for quota in found if quota.ref.namespace in visible]))
