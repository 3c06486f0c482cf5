"""The doctor: every check at once, and what is safe to mend."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from memory_operator.engine.admin.doctor.report import Scope
from memory_operator.errors import NotPermitted
from memory_operator.http.auth.base import JOBS, READ, Identity, Permission
from memory_operator.http.auth.permissions import Known, actor, may, require, services_of
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.problems import Problem
from memory_operator.http.schemas.doctor import DoctorAnswer, DoctorBody, RepairBody, RepairedAnswer
from memory_operator.http.schemas.reading import read

router = APIRouter(prefix="/v1/doctor", tags=["doctor"])


@router.post("", responses=responses(DoctorAnswer, 200, 409), openapi_extra=request_body(DoctorBody, required=False))
async def doctor(
    request: Request, identity: Known, body: Annotated[DoctorBody, Depends(read(DoctorBody, may_be_empty=True))]
) -> Response:
    """Look for what is wrong, and say what mends it.

    What a caller may not look at is said as `not_permitted`. Each Provider is called once where the caller may begin
    jobs; what that takes is in the ledger. Nothing else is written.
    """
    services = services_of(request)
    scope = Scope(await _allowed(request, identity, READ), await _allowed(request, identity, JOBS), body.calls)
    return reply(DoctorAnswer.of(await services.doctor.examine(scope), request.app.version))


async def _allowed(request: Request, identity: Identity, permission: Permission) -> frozenset[str] | None:
    """The namespaces where a caller has a permission; None where it is everywhere."""
    if await may(request, identity, permission, None):
        return None
    candidates = await services_of(request).catalog.namespaces() | {identity.namespace or ""} - {""}
    return frozenset([name for name in sorted(candidates) if await may(request, identity, permission, name)])


@router.post("/repair", responses=responses(RepairedAnswer), openapi_extra=request_body(RepairBody))
async def repair(request: Request, identity: Known, body: Annotated[RepairBody, Depends(read(RepairBody))]) -> Response:
    """Mend a fault that the doctor found: free ranges that a worker left, drop an index that a build left incomplete.

    Both are for those who may begin jobs in all namespaces. `/v1/reembed` makes the vectors that are missing.
    """
    await require(request, identity, JOBS, None)
    doctor = services_of(request).doctor
    try:
        repaired = await doctor.repair(body.kind, body.subject or "", actor(request, identity))
    except NotPermitted:
        hint = "run as the owner of the tables: memory-operator check --deep --fix"
        raise Problem(403, "forbidden", "the API's database role may not do that", hint=hint) from None
    return reply(RepairedAnswer(kind=body.kind, repaired=repaired))
