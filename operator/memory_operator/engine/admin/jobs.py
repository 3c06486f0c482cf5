"""Jobs as people see and steer them: begun, estimated, listed, paused, resumed, cancelled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from memory_operator.engine.admin.start_job import (
    JobRequest,
    Planned,
    begin,
    begin_reindex,
    choose,
    in_hand,
    plan,
    reindex_in_hand,
    work_of,
)
from memory_operator.engine.memories.prepare import VERSIONS
from memory_operator.engine.spaces.activation import ACTIVE_STATES
from memory_operator.engine.spaces.progress import JobView, view_of
from memory_operator.errors import Conflict, NotFound
from memory_operator.plan.budget import Left
from memory_operator.store.db import activity
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import control, jobs, quarantine, rechunk, skipped
from memory_operator.store.jobs.control import NamedJob
from memory_operator.store.jobs.estimate import Which
from memory_operator.store.jobs.quarantine import Quarantined
from memory_operator.store.jobs.rechunk import Scope
from memory_operator.store.jobs.skipped import Skipped
from memory_operator.store.memories import counts
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import limits


@dataclass(frozen=True, slots=True)
class Stored:
    """What a project, or the whole store, has before anything is done."""

    chunks: int
    """Live ones."""
    memories: int
    """Live ones."""
    dimensions: Sequence[int]
    """Of the vectors of the whole store, each once."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a request has begun, or what it would take."""

    spaces: Sequence[Planned]
    reindex: JobView | None = None
    """The job that cuts memories anew."""
    scope: Scope | None = None
    """The memories that it walks."""
    there: Stored | None = None
    """What there is before anything is done; in a dry run only."""


class Jobs:
    """Begins jobs, looks at them and steers them. One for each event loop."""

    def __init__(self, store: Store, keys: KeyRing) -> None:
        self._store = store
        self._keys = keys

    async def reembed(self, tenant: str, request: JobRequest, by: Actor) -> Begun:
        """Begin to fill what is missing, or to replace what is there, in each space that is meant.

        Raises NotFound, Conflict (no_embedder, space_retired, space_orphaned, job_open).
        """
        project_id = await self._project(tenant, request.project)
        async with self._store.connection() as conn:
            work = await work_of(conn, request, project_id)
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            planned = await begin(conn, request, project_id, work, by)
            for each in planned:
                if each.job is not None:
                    await _record(conn, by, "job_requested", each.job.named)
            return Begun(planned)

    async def reindex(self, tenant: str, request: JobRequest, by: Actor) -> Begun:
        """Begin to cut memories anew; for one space in particular only fill what is missing there.

        Raises as `reembed`.
        """
        if request.names_a_space:
            return await self.reembed(tenant, request, by)
        project_id = await self._project(tenant, request.project)
        async with self._store.connection() as conn:
            scope = await rechunk.scope(conn, project_id, VERSIONS)
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            begun = await begin_reindex(conn, project_id, scope.memories, by)
            await _record(conn, by, "job_requested", begun)
            return Begun((), view_of(begun), scope)

    async def estimate_reembed(self, tenant: str, request: JobRequest) -> Begun:
        """What `reembed` would do; nothing is written. Raises as that."""
        project_id = await self._project(tenant, request.project)
        which: Which = "all" if request.replace else "missing"
        async with self._store.connection() as conn:
            chosen = await choose(conn, request)
            await in_hand(conn, request, project_id, chosen)
            planned = [await plan(conn, space, project_id, which, request) for space in chosen]
            return Begun(planned, there=await _stored(conn, project_id, planned))

    async def estimate_reindex(self, tenant: str, request: JobRequest) -> Begun:
        """What `reindex` would do at most: a memory that was cut by other versions counts as if all its text changed.

        Nothing is written. Raises NotFound, Conflict.
        """
        if request.names_a_space:
            return await self.estimate_reembed(tenant, request)
        project_id = await self._project(tenant, request.project)
        async with self._store.connection() as conn:
            await reindex_in_hand(conn, project_id)
            accepting = [space for space in await spaces.all_spaces(conn) if space.state in ACTIVE_STATES]
            planned = [await plan(conn, space, project_id, "outdated") for space in accepting]
            scope = await rechunk.scope(conn, project_id, VERSIONS)
            return Begun(planned, scope=scope, there=await _stored(conn, project_id, planned))

    async def active_namespaces(self) -> frozenset[str]:
        """Namespaces of the Providers whose spaces get new vectors."""
        async with self._store.connection() as conn:
            return frozenset(
                space.ref.namespace for space in await spaces.all_spaces(conn) if space.state in ACTIVE_STATES
            )

    async def _project(self, tenant: str, slug: str | None) -> int | None:
        """Id of a tenant's project; None where the whole store is meant. Raises NotFound."""
        if slug is None:
            return None
        owner = await self._keys.known_tenant(self._store, tenant)
        found = await self._keys.known_project(self._store, owner, slug) if owner else None
        if found is None:
            raise NotFound(f"there is no project {slug}", hint="GET /v1/stats lists those of your tenant")
        return found

    async def page(self, namespaces: Collection[str], before: int | None, limit: int) -> list[JobView]:
        """The newest jobs of spaces of some namespaces, and reindexes, or those before one, newest first."""
        async with self._store.connection() as conn:
            return [view_of(named) for named in await control.page(conn, namespaces, before, limit)]

    async def get(self, job_id: int) -> JobView:
        """One job. Raises NotFound."""
        async with self._store.connection() as conn:
            return view_of(await _known(conn, job_id))

    async def namespaces(self, job_id: int) -> frozenset[str]:
        """Where somebody needs the right to steer a job: its Provider's namespace; for a reindex, those of all spaces.

        Raises NotFound.
        """
        async with self._store.connection() as conn:
            named = await _known(conn, job_id)
            if named.ref is not None:
                return frozenset([named.ref.namespace])
            return frozenset(space.ref.namespace for space in await spaces.all_spaces(conn))

    async def quarantined(
        self,
        namespaces: Collection[str],
        tenant: str | None,
        embedding_version: str | None,
        before: tuple[int, int] | None,
        limit: int,
    ) -> list[Quarantined]:
        """Chunks that embedders refuse, newest first; of one tenant, or of all for None."""
        async with self._store.connection() as conn:
            return await quarantine.page(conn, namespaces, tenant, embedding_version, before, limit)

    async def skipped(
        self, job_id: int, namespaces: Collection[str], tenant: str | None, after: int, limit: int
    ) -> list[Skipped]:
        """Chunks that a job skipped, by id, those behind one; of one tenant, or of all for None. Raises NotFound."""
        async with self._store.connection() as conn:
            await _known(conn, job_id)
            return await skipped.page(conn, job_id, namespaces, tenant, after, limit)

    async def retry(
        self, chosen: Sequence[tuple[int, int]], namespaces: Collection[str], tenant: str | None, by: Actor
    ) -> int:
        """Let the workers try chosen chunks once more; how many there were."""
        async with self._store.transaction() as conn:
            retried = await quarantine.requeue(conn, chosen, namespaces, tenant)
            if retried:
                await jobs.wake(conn)
                await activity.record(conn, by, "quarantine_retried", "", chunks=retried)
            return retried

    async def pause(self, job_id: int, by: Actor) -> JobView:
        """Let no further call leave for a job until it is resumed; calls under way are still stored.

        A job that waits for its budget does not go on by itself after this. Raises NotFound, Conflict (job_ended).
        """
        async with self._store.transaction() as conn:
            before = await _open(conn, job_id)
            if before.job.paused_for != "user":
                if not await control.pause(conn, job_id):
                    raise _ended(await _known(conn, job_id))
                await _record(conn, by, "job_paused", before)
            return view_of(await _known(conn, job_id))

    async def resume(self, job_id: int, by: Actor) -> JobView:
        """Let a paused job go on.

        Raises NotFound, Conflict (job_ended; budget_reached: it was paused for its budget, which is still used up).
        """
        async with self._store.transaction() as conn:
            before = await _open(conn, job_id)
            if before.job.paused_for == "budget":
                await _resume_within_budget(conn, before)
            elif before.job.state == "paused":
                await control.resume(conn, job_id)
            if before.job.state == "paused":
                await _record(conn, by, "job_resumed", before)
            return view_of(await _known(conn, job_id))

    async def cancel(self, job_id: int, by: Actor) -> JobView:
        """End a job; what it has stored stays, and what is under way is still stored.

        Cancelling it once more changes nothing. Raises NotFound, Conflict (job_ended: it is done).
        """
        async with self._store.transaction() as conn:
            before = await _known(conn, job_id)
            if before.job.state != "cancelled":
                await _open(conn, job_id)
                if not await control.cancel(conn, job_id):
                    raise _ended(await _known(conn, job_id))
                await _record(conn, by, "job_cancelled", before)
            return view_of(await _known(conn, job_id))


async def _stored(conn: Conn, project_id: int | None, planned: Sequence[Planned]) -> Stored:
    counted = await registry.counted(conn)
    dimensions = {space.dimensions for space in await spaces.all_spaces(conn) if counted.get(space.id, 0) > 0}
    of_project = next((each.estimate.counted.chunks for each in planned if each.estimate), 0)
    chunks = counted.get(registry.CHUNKS, 0) if project_id is None else of_project
    return Stored(chunks, await counts.live(conn, project_id), sorted(dimensions))


async def _resume_within_budget(conn: Conn, named: NamedJob) -> None:
    space = await spaces.get(conn, named.job.space_id or 0)
    if space is None:
        raise _no_such(named.job.id)
    left = await limits.budget_left(conn, space, named.job)
    if not await jobs.resume_within_budget(conn, named.job.id, left.tokens):
        raise _budget_reached(named, space, left)


def _budget_reached(named: NamedJob, space: Space, left: Left) -> Conflict:
    budget = space.config.budget.model_dump(mode="json", exclude_none=True)
    return Conflict(
        f"the budget of job {named.job.id} is used up: {left.bound}",
        code="budget_reached",
        hint=f"raise spec.embedding.budget of Provider {space.ref}: the job then goes on by itself",
        extra={
            "job": named.job.id,
            "bound": left.bound,
            "tokens_left": left.tokens,
            "spent_tokens": named.job.spent_tokens,
            "spent_cost": f"{named.job.spent_cost:f}",
            "budget": budget,
        },
    )


async def _known(conn: Conn, job_id: int) -> NamedJob:
    """A job. Raises NotFound."""
    named = await control.one(conn, job_id)
    if named is None:
        raise _no_such(job_id)
    return named


def _no_such(job_id: int) -> NotFound:
    return NotFound(f"there is no job {job_id}", hint="GET /v1/jobs lists them; those of a removed space are gone")


async def _open(conn: Conn, job_id: int) -> NamedJob:
    """A job that runs or is paused. Raises NotFound, Conflict."""
    named = await _known(conn, job_id)
    if named.job.state in ("done", "cancelled"):
        raise _ended(named)
    return named


def _ended(named: NamedJob) -> Conflict:
    return Conflict(
        f"job {named.job.id} is {named.job.state}",
        code="job_ended",
        hint="POST /v1/reembed starts another one for what is missing",
        extra={"job": named.job.id, "state": named.job.state},
    )


async def _record(conn: Conn, by: Actor, kind: str, named: NamedJob) -> None:
    subject = named.embedding_version or named.job.kind
    await activity.record(conn, by, kind, subject, job=named.job.id, done=named.job.done, total=named.job.total)
    await registry.announce(conn)
