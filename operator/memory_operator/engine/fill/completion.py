"""The end of a fill: look for what came late, have the index built, and only then say ready, or switch."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from functools import partial
from typing import TypeVar

from memory_operator.engine.fill import indexes, rebuilds
from memory_operator.engine.fill.index_builds import IndexBuilds
from memory_operator.engine.fill.indexes import WORKER
from memory_operator.engine.spaces.activation import coverage_is_comparable, switch
from memory_operator.errors import Retryable
from memory_operator.logs import get_logger
from memory_operator.store.db import activity
from memory_operator.store.db.pool import Store
from memory_operator.store.jobs import jobs, missing
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.missing import Balance
from memory_operator.store.spaces import providers, registry, spaces
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

T = TypeVar("T")

_MOST_PENDING = 100
_MOST_PENDING_SHARE = 1_000
"""A space may become ready while at most 100 chunks, or one in a thousand if that is less, wait for a vector."""


async def complete_exhausted(store: Store, builds: IndexBuilds) -> bool:
    """Complete each fill that is exhausted: no range is left. True while one will be in a moment.

    A fill that lacks its index is completed by a later call, once `builds` has built it.
    """
    async with store.connection() as conn:
        exhausted = await jobs.exhausted(conn)
    waiting = [job for job in exhausted if job.space_id is not None and not builds.is_running(job.space_id)]
    return any(await _each(_complete(store, builds, job) for job in waiting))


async def _each(steps: Iterable[Awaitable[T]]) -> list[T]:
    """Take all steps, one after the other, also where one fails; then raise what the first one raised."""
    first: Exception | None = None
    results: list[T] = []
    for step in steps:
        try:
            results.append(await step)
        except Exception as error:
            if first is not None and not isinstance(error, Retryable):
                log.exception("a fill was not completed, retrying")
            first = first or error
    if first is not None:
        raise first
    return results


async def _complete(store: Store, builds: IndexBuilds, job: Job) -> bool:
    """Complete a fill, if it can be; True where only what was just written is in the way."""
    async with store.connection() as conn:
        space = await spaces.get(conn, job.space_id) if job.space_id is not None else None
        if space is None:
            return False
        if job.fresh_id is not None:
            builds.begin(space.id, partial(rebuilds.complete, store, job))
            return False
        lacks_index = not await indexes.is_settled(conn, space)
        drift = (await missing.balance(conn, space.id)).unaccounted
    if drift > 0 and await _run_again(store, job, space):
        return True
    if lacks_index:
        indexes.begin(store, builds, space.id)
        return False
    async with store.connection() as conn:
        if _too_much_pending(await missing.balance(conn, space.id)):
            return await jobs.begin_closing(conn, job.id)
    ready = await _finish(store, job, space, max(0, drift))
    if ready:
        store.metrics.spaces_completed.inc()
        log.info("space %s is ready", space.embedding_version, extra={"provider": str(space.ref)})
    return not ready


def _too_much_pending(balance: Balance) -> bool:
    return balance.pending > min(_MOST_PENDING, balance.chunks // _MOST_PENDING_SHARE)


async def _finish(store: Store, job: Job, space: Space, drift: int) -> bool:
    """Make a space ready, and switch to it, unless too much was written meanwhile.

    What the counters say beyond `drift` is missing: the chunks themselves were looked at before, without the lock.
    """
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        balance = await missing.balance(conn, space.id)
        if job.is_partial and balance.unaccounted > 0:
            # The space is neither ready nor left by this: what others lack nobody has asked for.
            await jobs.finish(conn, job.id)
            await registry.announce(conn)
            return False
        if balance.unaccounted > drift or _too_much_pending(balance):
            return False
        if not await jobs.finish(conn, job.id):
            return False  # cancelled, or completed by another process meanwhile
        await spaces.set_state(conn, space.id, "ready")
        await activity.record(conn, WORKER, "filled", space.embedding_version, vectors=job.done)
        row = await providers.by_space(conn, space.id)
        if row and row.beside_space_id == space.id and row.activation == "Automatic":
            if coverage_is_comparable(row, space, await registry.counted(conn)):
                await switch(conn, row, space, WORKER)
            else:
                log.warning("%s lacks what its embedder refuses; activate it by hand", space.embedding_version)
        await registry.announce(conn)
    return True


async def _run_again(store: Store, job: Job, space: Space) -> bool:
    """Have chunks filled that the counters say were missed; False where none really was.

    Some came after the job's bound, while nothing was embedded for the space. Others a server forgot that commits
    without waiting for its disk, or a standby that took over; or the chunk was forgotten that others with the same
    text were left out for.
    """
    async with store.transaction() as conn:
        late = await jobs.queue_late_chunks(conn, job) if job.max_rows is None else 0
        if not late:
            if not await missing.any_up_to(conn, space.id, job.bound, job.project_id):
                return False
            if not await jobs.recreate_ranges(conn, job.id):
                return False
        await jobs.wake(conn)
    if not late:
        log.warning("filling again, some chunks were left without a vector (space=%s)", space.embedding_version)
    return True
