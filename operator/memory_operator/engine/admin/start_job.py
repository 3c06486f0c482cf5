"""Which spaces a request is about, what it would take, and the jobs that it begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from memory_operator.embedders import batch_limit, calls_a_vendor
from memory_operator.engine.memories.prepare import VERSIONS
from memory_operator.engine.spaces.activation import ACTIVE_STATES, begin_fill
from memory_operator.engine.spaces.progress import JobView, view_of
from memory_operator.errors import Conflict, NotFound
from memory_operator.plan.cost import cost_of
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import control, estimate, jobs, parts, rechunk
from memory_operator.store.jobs.control import NamedJob
from memory_operator.store.jobs.estimate import Counted, Which
from memory_operator.store.jobs.parts import Part
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.spaces.vectors import EVERYWHERE, Reach

_LISTED = "GET /v1/embeddings/spaces lists them"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What somebody wants to be embedded (anew)."""

    project: str | None = None
    """Of the caller's tenant; None: the whole store."""
    embedding_version: str | None = None
    provider: str | None = None
    replace: bool = False
    namespaces: Collection[str] = ()
    """Where Providers may be whose spaces are meant when none is named."""
    max_rows: int | None = None
    """So many chunks of each space at most, the oldest first; None: all of them."""
    sleep_ms: int = 0
    """How long each worker waits between two calls."""

    @property
    def names_a_space(self) -> bool:
        """Whether it is about some space in particular."""
        return self.embedding_version is not None or self.provider is not None


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """What a job of one space would take."""

    counted: Counted
    cost: Decimal | None
    """US dollars; None where the Provider declares no price."""
    seconds: int | None
    """At the rate of the last job, and with the pauses; None where there was none."""
    last_error: str | None
    """Why the embedder gives no vectors at the moment."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One space in the answer to a request."""

    space: Space
    estimate: JobEstimate | None = None
    job: JobView | None = None
    """None where nothing is to be done, and in a dry run."""
    retried: int = 0
    """Chunks that came out of quarantine, or would."""

    @property
    def remote(self) -> bool:
        """Whether texts are sent to a vendor; else they are embedded in processes of ours."""
        return calls_a_vendor(self.space.config)


async def choose(conn: Conn, request: JobRequest) -> list[Space]:
    """The spaces that a request is about, oldest first. Raises NotFound, Conflict (no_embedder, space_retired, …)."""
    found = await spaces.all_spaces(conn)
    if request.embedding_version is not None:
        named = [space for space in found if space.embedding_version == request.embedding_version]
        if not named:
            raise NotFound(f"there is no space {request.embedding_version}", hint=_LISTED)
    elif request.provider is not None:
        named = [space for space in found if str(space.ref) == request.provider]
        if not named:
            raise NotFound(f"Provider {request.provider} has no space", hint=_LISTED)
    else:
        named = [space for space in found if space.ref.namespace in request.namespaces]
    accepting = [space for space in named if space.state in ACTIVE_STATES]
    if accepting:
        return accepting
    if request.names_a_space:
        space = named[-1]
        raise Conflict(
            f"{space.embedding_version} is {space.state}: nobody asks for vectors of it any more",
            code=f"space_{space.state}",
            hint=f"apply Provider {space.ref} as it was; what the space has missed is then embedded by itself",
        )
    raise Conflict(
        "there is no space to fill",
        code="no_embedder",
        hint="apply a Provider with role embedding; GET /v1/embeddings/spaces tells why one has no space",
    )


async def plan(
    conn: Conn, space: Space, project_id: int | None, which: Which, request: JobRequest | None = None
) -> Planned:
    """What would be done for one space; nothing is written. A request is looked at as `work_of` looks at it."""
    part = await _part(conn, space, request, project_id) if request else None
    reach = part.reach if part else Reach(project_id)
    prefix = len(space.config.document_prefix.encode())
    counted = await estimate.count(conn, space, reach, which, VERSIONS, prefix)
    cost = Decimal(0) if not counted.to_embed else cost_of(counted.tokens, space.config.input_cost_per_1k)
    seconds = await _seconds(conn, space, counted.to_embed, request.sleep_ms if request else 0)
    retried = await control.quarantined(conn, space.id, reach)
    _, last_error = (await jobs.last_errors(conn, [space.id])).get(space.id, ("", None))
    return Planned(space, JobEstimate(counted, cost, seconds, last_error), retried=retried)


async def _seconds(conn: Conn, space: Space, texts: int, sleep_ms: int) -> int | None:
    if not texts:
        return 0
    rate = await estimate.last_rate(conn, space)
    if rate is None:
        return None
    calls = -(-texts // batch_limit(space.config))
    return max(1, round(texts / rate + (calls - 1) * sleep_ms / 1000))


async def _part(conn: Conn, space: Space, request: JobRequest, project_id: int | None) -> Part | None:
    return await parts.part_of(conn, space.id, project_id, replace=request.replace, max_rows=request.max_rows)


async def work_of(conn: Conn, request: JobRequest, project_id: int | None) -> Mapping[int, Part]:
    """What each space that a request is about lacks of a part, by space: chunk by chunk, so nothing is locked.

    Nothing where the whole store is meant. Raises as `choose`.
    """
    parts = {space.id: await _part(conn, space, request, project_id) for space in await choose(conn, request)}
    return {space_id: part for space_id, part in parts.items() if part is not None}


async def in_hand(
    conn: Conn, request: JobRequest, project_id: int | None, chosen: Sequence[Space]
) -> Mapping[int, NamedJob]:
    """Jobs that do already what a request is about, by space. Raises Conflict (job_open) where one does otherwise."""
    return _in_hand(await control.open_jobs(conn, [space.id for space in chosen]), project_id, request)


async def begin(
    conn: Conn, request: JobRequest, project_id: int | None, work: Mapping[int, Part], by: Actor
) -> list[Planned]:
    """Begin a job for each space that has something to do. The registry is locked exclusively.

    Of a part this does what `work_of` found; a space that came after that is left out. Refused chunks are tried
    again. Raises as `choose`, and Conflict (job_open): another job stands in the way; nothing was begun.
    """
    whole = project_id is None and request.max_rows is None
    chosen = [space for space in await choose(conn, request) if whole or space.id in work]
    there = await in_hand(conn, request, project_id, chosen)
    return [await _begin_one(conn, space, request, work.get(space.id), by, there.get(space.id)) for space in chosen]


async def _begin_one(
    conn: Conn, space: Space, request: JobRequest, part: Part | None, by: Actor, there: NamedJob | None
) -> Planned:
    reach = part.reach if part else EVERYWHERE
    retried = await control.requeue_quarantined(conn, space.id, reach, at_once=there is not None)
    done = Planned(space, retried=retried)
    if there is not None:
        return replace(done, job=view_of(there))
    lacks = bool(retried) or (part.chunks > 0 if part else await control.lacks_some(conn, space.id, None))
    if not lacks and not request.replace and space.state == "ready":
        return done  # one that is filling, with no job, has its end before it: the index, and perhaps the switch
    job_id = await begin_fill(conn, space, part, by.name, replace=request.replace, sleep_ms=request.sleep_ms)
    begun = await control.one(conn, job_id)
    return replace(done, job=view_of(begun) if begun else None)


def _in_hand(found: Sequence[NamedJob], project_id: int | None, request: JobRequest) -> dict[int, NamedJob]:
    """Jobs that do already what is asked for, by space. Raises Conflict where one does something else."""
    in_the_way = [named for named in found if not _does(named, project_id, request)]
    if in_the_way:
        named = in_the_way[0]
        raise Conflict(
            f"job {named.job.id} of {named.embedding_version} is {named.job.state}",
            code="job_open",
            hint=f"wait for it, resume it, or cancel it: POST /v1/jobs/{named.job.id}/cancel",
            extra={"jobs": [named.job.id for named in in_the_way]},
        )
    return {named.job.space_id: named for named in found if named.job.space_id is not None}


def _does(named: NamedJob, project_id: int | None, request: JobRequest) -> bool:
    """Whether a job that runs makes all vectors that are asked for: it may be that somebody asks twice."""
    job = named.job
    if job.state != "running" or (request.replace and not job.replace):
        return False
    if job.max_rows is not None and job.max_rows != request.max_rows:
        return False
    return job.project_id is None or job.project_id == project_id


async def reindex_in_hand(conn: Conn, project_id: int | None) -> NamedJob | None:
    """The reindex that is open, if it covers what is meant. Raises Conflict (job_open) where it does not."""
    there = await control.open_reindex(conn)
    if there is None:
        return None
    covers = there.job.project_id is None or there.job.project_id == project_id
    if there.job.state == "running" and covers:
        return there
    raise Conflict(
        f"job {there.job.id}, another reindex, is {there.job.state}",
        code="job_open",
        hint=f"wait for it, resume it, or cancel it: POST /v1/jobs/{there.job.id}/cancel",
        extra={"jobs": [there.job.id]},
    )


async def begin_reindex(conn: Conn, project_id: int | None, memories: int, by: Actor) -> NamedJob:
    """Begin to cut so many memories anew. The registry is locked exclusively. Raises Conflict (job_open)."""
    there = await reindex_in_hand(conn, project_id)
    if there is not None:
        return there
    job_id = await rechunk.start(conn, project_id, memories, by.name)
    begun = await control.one(conn, job_id)
    assert begun is not None
    await registry.announce(conn)
    return begun
