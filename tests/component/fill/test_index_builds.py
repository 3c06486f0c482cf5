"""A build of an index that does not end keeps no other space from ready; processes that stop keep no build waiting."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.proc import OwnProcess
from fixtures.engine import World
from fixtures.fills import begun, builds_blocked, complete, provider, sound
from fixtures.waiting import until
from memory_operator.store.spaces.hnsw import FROM_VECTORS
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


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
    index = (
        "select bool_and(indisvalid) from pg_index i join pg_class c on c.oid = i.indexrelid"
        " where i.indrelid = $1::regclass and c.relname ~ '_hnsw_'"
    )
    return bool(await world.value(index, f"memory_vectors_{space_id}"))


async def test_other_spaces_become_ready_while_the_build_of_one_does_not_end(world: World, vendor: StubVendor) -> None:
    await world.stored(FROM_VECTORS)
    async with world.operator():
        await begun(world, vendor, batchSize=500)
        async with world.worker():
            async with builds_blocked(world):
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
        async with builds_blocked(world):
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


async def test_a_worker_that_is_stopped_inside_a_transaction_keeps_no_build_waiting(
    world: World, vendor: StubVendor, tmp_path: Path
) -> None:
    """Its snapshot is older than what the index must cover, whatever the transaction is about."""
    await world.stored(FROM_VECTORS)
    with OwnProcess(tmp_path, world.dsn, "worker") as stopped:
        try:
            await _stop_inside_a_transaction(world, stopped.pid)
            async with world.operator(), world.worker():
                await begun(world, vendor, batchSize=500)
                await until(lambda: complete(world), "the space is ready")
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        await until(
            lambda: world.value("select bool_and(words_after is null) from memory_projects"),
            "what was stopped goes on",
        )
    assert await indexed(world, 1)
    await sound(world)


async def _stop_inside_a_transaction(world: World, pid: int) -> None:
    """Stop the only worker while one of its pooled sessions has a snapshot, in the middle of rewriting words."""
    inside = (
        "select count(*) > 0 from pg_stat_activity where application_name = 'memory-worker'"
        " and datname = current_database() and xact_start is not null and {}"
    )
    for _ in range(20):
        async with world.store.transaction() as conn:
            await conn.execute("lock table memory_chunks in access exclusive mode")
            await world.fetch("update memory_projects set words_after = 0")
            await until(lambda: world.value(inside.format("wait_event_type = 'Lock'")), "the rewriter waits")
            os.kill(pid, signal.SIGSTOP)
        if await _is_inside(world, inside.format("state = 'idle in transaction'")):
            return
        os.kill(pid, signal.SIGCONT)
    pytest.fail("the worker was never stopped inside a transaction")


async def _is_inside(world: World, query: str) -> bool:
    for _ in range(50):
        if await world.value(query):
            return True
        await asyncio.sleep(0.02)
    return False
