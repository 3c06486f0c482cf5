"""Jobs: begun, estimated, listed, paused, resumed, cancelled."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from memory_operator.engine.admin.start_job import JobRequest
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
    tenant_told_of,
)
from memory_operator.http.openapi.document import reply, request_body, responses
from memory_operator.http.schemas.base import NoBody
from memory_operator.http.schemas.jobs import (
    BegunAnswer,
    JobAnswer,
    JobsAnswer,
    ReembedBody,
    ReindexBody,
    SkippedAnswer,
    SkippedChunkAnswer,
)
from memory_operator.http.schemas.reading import read

router = APIRouter(prefix="/v1", tags=["jobs"])

JobId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Number of the job.")]
_READS_NOTHING = Depends(read(NoBody, may_be_empty=True))
_TAKES_NOTHING = request_body(NoBody, required=False)


@router.post(
    "/reembed", responses=responses(BegunAnswer, 200, 404, 409), openapi_extra=request_body(ReembedBody, required=False)
)
async def reembed(
    request: Request, identity: Known, body: Annotated[ReembedBody, Depends(read(ReembedBody, may_be_empty=True))]
) -> Response:
    """Fill what spaces lack, and try refused chunks again; with `replace`, make all of their vectors anew.

    With `max_rows` a job ends after so many chunks: asked for again, without `replace`, it does the next ones.

    Without a name it is about each space of the namespaces where the caller may begin jobs. A dry run answers at once,
    begins nothing and writes nothing; its figures are those of the run, and it is refused where that would be.
    """
    allowed = await _may_fill(request, identity, body)
    named = (body.project, body.embedding_version, body.provider)
    wanted = JobRequest(*named, body.replace, allowed, body.max_rows, body.sleep_ms)
    jobs = services_of(request).jobs
    if body.dry_run:
        return reply(BegunAnswer.of(await jobs.estimate_reembed(identity.tenant, wanted), body, identity.tenant))
    return reply(
        BegunAnswer.of(await jobs.reembed(identity.tenant, wanted, actor(request, identity)), body, identity.tenant)
    )


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
    wanted = JobRequest(body.project, body.embedding_version, body.provider, namespaces=allowed)
    if body.dry_run:
        return reply(BegunAnswer.of(await jobs.estimate_reindex(identity.tenant, wanted), body, identity.tenant))
    return reply(
        BegunAnswer.of(await jobs.reindex(identity.tenant, wanted, actor(request, identity)), body, identity.tenant)
    )


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
    return reply(JobsAnswer(jobs=[JobAnswer.of(view, identity.tenant) for view in found], next_before=following))


@router.get("/jobs/{id}", responses=responses(JobAnswer, 200, 404))
async def job(request: Request, identity: Known, id: JobId) -> Response:  # noqa: A002 - the name in the path
    """One job."""
    visible = await readable(request, identity)
    view = await services_of(request).jobs.get(id)
    if view.named.ref is not None and view.named.ref.namespace not in visible:
        raise NotFound(f"there is no job {id}", hint="GET /v1/jobs lists those that you may see")
    return reply(JobAnswer.of(view, identity.tenant))


@router.get("/jobs/{id}/skipped", responses=responses(SkippedAnswer, 200, 404))
async def skipped(
    request: Request,
    identity: Known,
    id: JobId,  # noqa: A002 - the name in the path
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Only those behind this.")] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> Response:
    """Chunks that a job skipped, each with its memory and the reason: the caller's own, by id.

    They are kept until the next reembed of the space. For those who may begin jobs in all namespaces, everybody's.
    """
    visible, tenant = await readable(request, identity), await tenant_told_of(request, identity)
    found = await services_of(request).jobs.skipped(id, visible, tenant, after, limit)
    following = found[-1].chunk_id if len(found) == limit else None
    return reply(SkippedAnswer(skipped=[SkippedChunkAnswer.of(each) for each in found], next_after=following))


async def _steerer(request: Request, identity: Known, id: JobId) -> Identity:  # noqa: A002 - the name in the path
    """Raise a 403 problem, or NotFound: which of them tells nothing to those who may steer no job anywhere."""
    try:
        namespaces = await services_of(request).jobs.namespaces(id)
    except NotFound:
        await require(request, identity, JOBS, None)
        raise
    await require_in_all(request, identity, JOBS, namespaces)
    return identity


Steerer = Annotated[Identity, Depends(_steerer)]
_STEERS: dict[str, Any] = {
    "responses": responses(JobAnswer, 200, 404, 409),
    "openapi_extra": _TAKES_NOTHING,
    "dependencies": [_READS_NOTHING],
}


@router.post("/jobs/{id}/pause", **_STEERS)
async def pause(request: Request, identity: Steerer, id: JobId) -> Response:  # noqa: A002
    """Let no further call leave for a job until it is resumed; what is under way is still stored."""
    return reply(JobAnswer.of(await services_of(request).jobs.pause(id, actor(request, identity)), identity.tenant))


@router.post("/jobs/{id}/resume", **_STEERS)
async def resume(request: Request, identity: Steerer, id: JobId) -> Response:  # noqa: A002
    """Let a paused job go on; refused with the figures while the budget that it was paused for is used up."""
    return reply(JobAnswer.of(await services_of(request).jobs.resume(id, actor(request, identity)), identity.tenant))


@router.post("/jobs/{id}/cancel", **_STEERS)
async def cancel(request: Request, identity: Steerer, id: JobId) -> Response:  # noqa: A002
    """End a job; the vectors that it has stored stay, and what is under way is still stored."""
    return reply(JobAnswer.of(await services_of(request).jobs.cancel(id, actor(request, identity)), identity.tenant))
