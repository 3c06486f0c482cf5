"""A build of an index that does not end keeps no other space from ready, and one that was killed is made anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from bench.proc import OwnProcess
from fixtures.engine import World
from fixtures.fills import begun, complete, provider, sound
from fixtures.waiting import until
from memory_operator.store.spaces.hnsw import FROM_VECTORS
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@asynccontextmanager
async def index_of_space_1_blocked(world: World) -> AsyncIterator[None]:
    """A transaction of somebody else that wrote to the first space's table and has not ended: a build waits for it."""
    conn = await asyncpg.connect(world.dsn)
    try:
        async with conn.transaction():
            await conn.execute("lock table memory_vectors_1 in row exclusive mode")
            yield
    finally:
        await conn.close()


async def builds(world: World) -> int:
    """Builds that the server is at."""
    return int(
        await world.value(
            "select count(*) from pg_stat_activity where application_name = 'memory-index' and state = 'active'"
            " and datname = current_database()"
        )
    )


async def indexed(world: World, space_id: int) -> bool:
    """Whether a space has a complete index."""
    index = f"memory_vectors_{space_id}_hnsw_cosine"
    return bool(await world.value("select indisvalid from pg_index where indexrelid = to_regclass($1)", index))


async def test_other_spaces_become_ready_while_the_build_of_one_does_not_end(world: World, vendor: StubVendor) -> None:
    await world.stored(FROM_VECTORS)
    async with world.operator():
        await begun(world, vendor, batchSize=500)
        async with world.worker():
            async with index_of_space_1_blocked(world):
                await until(lambda: builds(world), "the build has begun")
                for number in (2, 3):
                    world.cluster.apply(f"space-{number}", provider(vendor, f"model-{number}", batchSize=500))
                    await until(lambda number=number: complete(world, number), f"space {number} is ready")
                    assert await indexed(world, number)
                assert not await complete(world, 1)
                assert await builds(world) == 1
            await until(lambda: complete(world, 1), "the first space is ready")
    assert await indexed(world, 1)
    for number in (1, 2, 3):
        await sound(world, number)


async def test_the_build_of_a_worker_that_was_killed_ends_and_another_worker_makes_it_anew(
    world: World, vendor: StubVendor, tmp_path: Path
) -> None:
    await world.stored(FROM_VECTORS)
    async with world.operator():
        await begun(world, vendor, batchSize=500)
        async with index_of_space_1_blocked(world):
            with OwnProcess(tmp_path, world.dsn, "worker") as killed:
                await until(lambda: builds(world), "the build has begun")
                killed.kill()
            await until(lambda: _none(world), "the server has ended the build")
            assert not await complete(world)
        async with world.worker():
            await until(lambda: complete(world), "the space is ready")
    assert await indexed(world, 1)
    await sound(world)
    assert len(vendor.inputs) - 1 == FROM_VECTORS  # a probe, and each text once


async def _none(world: World) -> bool:
    return await builds(world) == 0
