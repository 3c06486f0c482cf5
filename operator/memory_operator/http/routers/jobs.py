"""Jobs: begun, estimated, listed, paused, resumed, cancelled."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from memory_operator.engine.admin.jobs import Begun
from memory_operator.engine.admin.start_job import JobEstimate, JobRequest
from memory_operator.engine.spaces.progress import JobView
from memory_operator.errors import NotFound
from memory_operator.http.auth.base import JOBS, Identity
from memory_operator.http.auth.permissions import (
    Known,
    actor,
    namespaces_with,
    readable,
    require,
    require_in_all,
    services_of,
)
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.answers import JobAnswer
from memory_operator.http.schemas.bodies import NoBody, ReembedBody, ReindexBody, read
from memory_operator.http.schemas.jobs import BegunAnswer, EstimateAnswer, JobsAnswer, PlannedAnswer

router = APIRouter(prefix="/v1", tags=["jobs"])

JobId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Number of the job.")]
Nothing = Annotated[NoBody, Depends(read(NoBody, may_be_empty=True))]
_TAKES_NOTHING = request_body(NoBody, required=False)


@router.post(
    "/reembed", responses=responses(BegunAnswer, 200, 404, 409), openapi_extra=request_body(ReembedBody, required=False)
)
async def reembed(
    request: Request, identity: Known, body: Annotated[ReembedBody, Depends(read(ReembedBody, may_be_empty=True))]
) -> Response:
    """Fill what spaces lack, and try refused chunks again; with `replace`, make all of their vectors anew.

    Without a name it is about each space of the namespaces where the caller may begin jobs. A dry run answers at once,
    begins nothing and writes nothing.
    """
    allowed = await _may_fill(request, identity, body)
    asked = JobRequest(body.project, body.embedding_version, body.provider, body.replace, allowed)
    jobs = services_of(request).jobs
    if body.dry_run:
        return reply(_begun(await jobs.estimate_reembed(identity.tenant, asked), body))
    return reply(_begun(await jobs.reembed(identity.tenant, asked, actor(request, identity)), body))


@router.post(
    "/reindex", responses=responses(BegunAnswer, 200, 404, 409), openapi_extra=request_body(ReindexBody, required=False)
)
async def reindex(
    request: Request, identity: Known, body: Annotated[ReindexBody, Depends(read(ReindexBody, may_be_empty=True))]
) -> Response:
    """Cut stored memories into chunks anew, by the present rules; vectors of texts that stay are kept.

    What is new is filled in every space, so that it needs the right to begin jobs in all of their namespaces. With a
    space it cuts nothing and fills what is missing there.
    """
    jobs = services_of(request).jobs
    if body.embedding_version is None and body.provider is None:
        allowed = await jobs.active_namespaces()
        await require_in_all(request, identity, JOBS, allowed)
    else:
        allowed = await _may_fill(request, identity, body)
    asked = JobRequest(body.project, body.embedding_version, body.provider, namespaces=allowed)
    if body.dry_run:
        return reply(_begun(await jobs.estimate_reindex(identity.tenant, asked), body))
    return reply(_begun(await jobs.reindex(identity.tenant, asked, actor(request, identity)), body))


async def _may_fill(request: Request, identity: Identity, body: ReindexBody) -> frozenset[str]:
    """The namespaces that a request is about, in which its caller may begin jobs. Raises a 403 problem."""
    services = services_of(request)
    if body.provider is not None:
        namespace: str | None = body.provider.partition("/")[0]
    elif body.embedding_version is not None:
        namespace = await services.catalog.namespace_of(body.embedding_version)
    else:
        return await namespaces_with(request, identity, JOBS, await services.jobs.active_namespaces())
    await require(request, identity, JOBS, namespace)
    return frozenset([namespace] if namespace else [])


@router.get("/jobs", responses=responses(JobsAnswer))
async def jobs(
    request: Request,
    identity: Known,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only older jobs than this id.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> Response:
    """All jobs, newest first."""
    found = await services_of(request).jobs.page(await readable(request, identity), before, limit)
    following = found[-1].named.job.id if len(found) == limit else None
    return reply(JobsAnswer(jobs=[job_answer(view) for view in found], next_before=following))


@router.get("/jobs/{id}", responses=responses(JobAnswer, 200, 404))
async def job(request: Request, identity: Known, id: JobId) -> Response:  # noqa: A002 - the name in the path
    """One job."""
    visible = await readable(request, identity)
    view = await services_of(request).jobs.get(id)
    if view.named.ref is not None and view.named.ref.namespace not in visible:
        raise NotFound(f"there is no job {id}", hint="GET /v1/jobs lists those that you may see")
    return reply(job_answer(view))


@router.post("/jobs/{id}/pause", responses=responses(JobAnswer, 200, 404, 409), openapi_extra=_TAKES_NOTHING)
async def pause(request: Request, identity: Known, id: JobId, body: Nothing) -> Response:  # noqa: A002
    """Let no further call leave for a job until it is resumed; what is under way is still stored."""
    await _may_steer(request, identity, id)
    return reply(job_answer(await services_of(request).jobs.pause(id, actor(request, identity))))


@router.post("/jobs/{id}/resume", responses=responses(JobAnswer, 200, 404, 409), openapi_extra=_TAKES_NOTHING)
async def resume(request: Request, identity: Known, id: JobId, body: Nothing) -> Response:  # noqa: A002
    """Let a paused job go on; refused with the figures while the budget that it was paused for is used up."""
    await _may_steer(request, identity, id)
    return reply(job_answer(await services_of(request).jobs.resume(id, actor(request, identity))))


@router.post("/jobs/{id}/cancel", responses=responses(JobAnswer, 200, 404, 409), openapi_extra=_TAKES_NOTHING)
async def cancel(request: Request, identity: Known, id: JobId, body: Nothing) -> Response:  # noqa: A002
    """End a job; the vectors that it has stored stay, and what is under way is still stored."""
    await _may_steer(request, identity, id)
    return reply(job_answer(await services_of(request).jobs.cancel(id, actor(request, identity))))


async def _may_steer(request: Request, identity: Identity, job_id: int) -> None:
    """Raise a 403 problem, or NotFound: which of them tells nothing to those who may steer no job anywhere."""
    try:
        namespaces = await services_of(request).jobs.namespaces(job_id)
    except NotFound:
        await require(request, identity, JOBS, None)
        raise
    await require_in_all(request, identity, JOBS, namespaces)


def _begun(begun: Begun, body: ReindexBody) -> BegunAnswer:
    return BegunAnswer(
        dry_run=body.dry_run,
        project=body.project,
        spaces=[
            PlannedAnswer(
                embedding_version=each.space.embedding_version,
                provider=str(each.space.ref),
                estimate=None if each.estimate is None else _estimate(each.estimate),
                job=None if each.job is None else job_answer(each.job),
                retried=each.retried,
            )
            for each in begun.spaces
        ],
        reindex=None if begun.reindex is None else job_answer(begun.reindex),
        memories=None if begun.scope is None else begun.scope.memories,
        outdated=None if begun.scope is None else begun.scope.outdated,
    )


def _estimate(estimate: JobEstimate) -> EstimateAnswer:
    counted = estimate.counted
    return EstimateAnswer(
        chunks=counted.chunks,
        already_there=counted.already_there,
        copied=counted.copied,
        to_embed=counted.to_embed,
        estimated_tokens=counted.tokens,
        estimated_cost=estimate.cost,
        estimated_seconds=estimate.seconds,
        too_large=counted.too_large,
    )


def job_answer(view: JobView) -> JobAnswer:
    """One job as the API shows it."""
    named, job = view.named, view.named.job
    return JobAnswer.model_validate(
        {
            "embedding_version": named.embedding_version,
            "provider": None if named.ref is None else str(named.ref),
            "project": named.project,
            "rate": None if view.rate is None else round(view.rate, 1),
            "eta_seconds": view.eta_seconds,
            **{name: getattr(job, name) for name in _AS_STORED},
        }
    )


_AS_STORED = (
    "id",
    "kind",
    "replace",
    "state",
    "paused_for",
    "message",
    "done",
    "total",
    "tokens",
    "cost",
    "calls",
    "copied",
    "quarantined",
    "requested_by",
    "created_at",
    "first_call_at",
    "finished_at",
)
