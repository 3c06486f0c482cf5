"""The end of a fill: look for what came late, build the index, and only then say ready, or switch."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from memory_operator.engine.spaces.activation import coverage_is_comparable, switch
from memory_operator.errors import Retryable
from memory_operator.logs import get_logger
from memory_operator.store.db import activity
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import control, jobs, missing
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import hnsw, providers, registry, spaces
from memory_operator.store.spaces.hnsw import Wanted
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

WORKER = Actor("memory-operator", "worker")


async def complete_exhausted(store: Store) -> None:
    """Complete each fill that is exhausted: no range is left."""
    async with store.connection() as conn:
        exhausted = await jobs.exhausted(conn)
    await _each(_complete(store, job) for job in exhausted)


async def _each(steps: Iterable[Awaitable[None]]) -> None:
    """Take all steps, one after the other, also where one fails; then raise what the first one raised."""
    first: Exception | None = None
    for step in steps:
        try:
            await step
        except Exception as error:
            if first is not None and not isinstance(error, Retryable):
                log.exception("a fill was not completed, retrying")
            first = first or error
    if first is not None:
        raise first


async def _complete(store: Store, job: Job) -> None:
    async with store.connection() as conn:
        space = await spaces.get(conn, job.space_id) if job.space_id is not None else None
        needs_index = space is not None and await hnsw.wanted(conn, space.id)
    if space is None:
        return
    if await _run_again(store, job, space):
        return
    if needs_index:
        await hnsw.build(store, Wanted(space.id, space.column_type, space.distance))
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        if job.project_id is not None and await control.lacks_some(conn, space.id, None):
            # The space is neither ready nor left by this: what other projects lack nobody has asked for.
            await jobs.finish(conn, job.id)
            await registry.announce(conn)
            return
        if await jobs.queue_late_chunks(conn, space.id, job.bound):
            await jobs.wake(conn)  # they are embedded first, then this runs again
            return
        if not await jobs.finish(conn, job.id):
            return  # cancelled, or completed by another process meanwhile
        await spaces.set_state(conn, space.id, "ready")
        await activity.record(conn, WORKER, "filled", space.embedding_version, vectors=job.done)
        row = await providers.by_space(conn, space.id)
        if row and row.beside_space_id == space.id and row.activation == "Automatic":
            if coverage_is_comparable(row, space, await registry.counted(conn)):
                await switch(conn, row, space, WORKER)
            else:
                log.warning("%s lacks what its embedder refuses; activate it by hand", space.embedding_version)
        await registry.announce(conn)
    store.metrics.spaces_completed.inc()
    log.info("space %s is ready", space.embedding_version, extra={"provider": str(space.ref)})


async def _run_again(store: Store, job: Job, space: Space) -> bool:
    """Let a job run once more where the counters say that chunks were missed, and some really were.

    A server that commits without waiting for its disk, or a standby that took over, may have forgotten some; or the
    chunk was forgotten that others with the same text were left out for.
    """
    async with store.connection() as conn:
        counted = await registry.counted(conn)
        quarantined = (await spaces.quarantined(conn)).get(space.id, 0)
        if counted.get(registry.CHUNKS, 0) - counted.get(space.id, 0) - quarantined <= 0:
            return False
    async with store.transaction() as conn:
        if not await missing.any_up_to(conn, space.id, job.bound, job.project_id):
            return False
        if not await jobs.recreate_ranges(conn, job.id):
            return False
        await jobs.wake(conn)
    log.warning("filling again, some chunks were left without a vector (space=%s)", space.embedding_version)
    return True


async def reconcile_indexes(store: Store) -> None:
    """Give ready spaces the index that their size and their distance ask for."""
    async with store.connection() as conn:
        ready = [space for space in await spaces.all_spaces(conn) if space.state == "ready"]
        waiting = [space for space in ready if not await _has_its_index(conn, space)]
    await _each(_reconcile_index(store, space) for space in waiting)


async def _has_its_index(conn: Conn, space: Space) -> bool:
    wanted_distance = space.config.distance
    if space.distance != wanted_distance:
        return False
    return not await hnsw.wanted(conn, space.id) or await hnsw.is_valid(conn, space.id, wanted_distance)


async def _reconcile_index(store: Store, space: Space) -> None:
    """Queries go on with the old distance until the new index is there; then both change at once."""
    want = Wanted(space.id, space.column_type, space.config.distance)
    async with store.connection() as conn:
        needed = await hnsw.wanted(conn, space.id)
    if needed:
        await hnsw.build(store, want)
    if space.distance != want.distance:
        async with store.transaction() as conn:
            await spaces.set_distance(conn, space.id, want.distance)
            await activity.record(conn, WORKER, "distance", space.embedding_version, distance=want.distance)
            await registry.announce(conn)
        await hnsw.drop_others(store, want)
