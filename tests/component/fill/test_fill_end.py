"""How much may wait for a vector when a fill ends. The counters are put there: the stores would be large."""

from __future__ import annotations

import asyncio

import pytest

from fixtures.engine import World
from fixtures.memories import Memories, config
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.fill.completion import complete_exhausted
from memory_operator.engine.fill.index_builds import IndexBuilds
from memory_operator.plan.index import IndexInUse
from memory_operator.store.jobs import jobs
from memory_operator.store.spaces import hnsw, registry, spaces


async def exhausted(world: World, memories: Memories, chunks: int, pending: int) -> None:
    """A space of which every range is done, that lacks nothing but what is pending."""
    space = await memories.space(config(), active=False, state="filling")
    await hnsw.build(world.store, hnsw.Wanted(space.id, space.column_type, space.distance))
    async with world.store.connection() as conn:
        await spaces.use_index(conn, space.id, space.distance, IndexInUse(wanted=space.config.index, vectors=chunks))
    async with world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        await jobs.start(conn, space.id)
    await world.fetch("delete from memory_reembed_leases")
    await world.stored(pending)
    await world.store_pending(space.id)
    async with world.store.transaction() as conn:
        await registry.count(conn, {registry.CHUNKS: chunks - pending, space.id: chunks - pending})


@pytest.mark.parametrize(
    ("chunks", "pending", "is_ready"),
    [
        (999, 0, True),
        (999, 1, False),
        (1_000, 1, True),
        (2_999, 2, True),
        (2_999, 3, False),
        (500_000, 100, True),
        (500_000, 101, False),
    ],
)
async def test_a_space_is_ready_once_at_most_100_chunks_or_a_thousandth_of_them_wait_and_says_that_they_do(
    world: World, memories: Memories, chunks: int, pending: int, is_ready: bool
) -> None:
    await exhausted(world, memories, chunks, pending)
    async with asyncio.TaskGroup() as group:
        await complete_exhausted(world.store, IndexBuilds(group, lambda: None))
    [view] = await Catalog(world.store).spaces()
    assert (view.space.state, view.figures.chunks) == ("ready" if is_ready else "filling", chunks)
    assert (view.coverage < 1) is (pending > 0)
    job = await world.value("select state from memory_reembed_jobs")
    assert job == ("done" if is_ready else "running")
