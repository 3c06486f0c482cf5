"""The end of a rebuild: the table that it filled afresh gets its index, and takes the place of the space's."""

from __future__ import annotations

from dataclasses import replace

from memory_operator.engine.fill.indexes import WORKER, build_segment, build_segments
from memory_operator.engine.spaces.activation import catch_up
from memory_operator.errors import LockBusy, SpaceVanished
from memory_operator.logs import get_logger
from memory_operator.store.db import activity, locks
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import fresh, jobs, missing
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import hnsw, model_checks, registry, spaces
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)


async def complete(store: Store, job: Job) -> None:
    """Complete a rebuild of which every range is walked. May be repeated after a failure at any moment.

    Queries read the old vectors until the last transaction of it. Raises LockBusy, SpaceVanished.
    """
    assert job.space_id is not None
    async with locks.index_lock(store, job.space_id):
        async with store.connection() as conn:
            space = await spaces.get(conn, job.space_id)
            running = job.id in {each.id for each in await jobs.exhausted(conn)}
            vectors = await hnsw.vectors_to_index(conn, job.space_id)
        if space is None:
            raise SpaceVanished
        if not running:
            return
        await fresh.prepare(store, space, job.id)  # it lacks where there was nothing to read
        await fresh.copy_missing(store, space.id, job.id)
        index = replace(hnsw.of_space(space, space.distance, space.index), job_id=job.id)
        has_index = vectors and space.index.wanted is not None and space.index.kind != "none"
        first = await build_segment(store, index, 0) if has_index else None
        await fresh.tidy(store, space.id, job.id)
        await fresh.copy_missing(store, space.id, job.id)
        segments = await build_segments(store, index, first) if first else None
        await fresh.copy_missing(store, space.id, job.id)
        async with store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            if not await jobs.finish(conn, job.id):
                return  # cancelled meanwhile
            await fresh.take_place(conn, space.id, job.id)
            await model_checks.forget(conn, space.id)
            in_use = space.index.model_copy(update={"segments": segments or ()})
            await spaces.use_index(conn, space.id, space.distance, in_use)
            await _finished(conn, space, job)
    log.info("space %s is rebuilt", space.embedding_version, extra={"provider": str(space.ref)})
    await drop_left_over(store)


async def _finished(conn: Conn, space: Space, job: Job) -> None:
    balance = await missing.balance(conn, space.id)
    await activity.record(conn, WORKER, "filled", space.embedding_version, vectors=job.done)
    if balance.unaccounted > 0 or space.state == "filling":
        await catch_up(conn, space)  # whose end says ready, and switches
    await registry.announce(conn)


async def drop_left_over(store: Store) -> None:
    """Drop what rebuilds left, or let the next look do so where somebody reads chunks for long."""
    try:
        await fresh.drop_left_over(store)
    except LockBusy as error:
        log.info("tables of rebuilds not dropped, retrying with the next look: %s", error)
