"""A space is filled and switched to while memories are written, and a write waits for no space but the active one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from fixtures.api import Api
from fixtures.engine import World
from fixtures.fills import complete, lacking, provider, sent, sound
from fixtures.waiting import until
from vendor.script import Fault
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def slow() -> Iterator[StubVendor]:
    """Another vendor."""
    with StubVendor(dimensions=64) as stub:
        yield stub


@asynccontextmanager
async def writing(api: Api, every_seconds: float) -> AsyncIterator[list[str]]:
    """Memories are added all the time, whatever becomes of those before; the statuses that were answered."""
    statuses: list[str] = []
    adds: set[asyncio.Task[None]] = set()

    async def add(number: int) -> None:
        answer = await api.post("/memory/add", {"text": f"written while it is filled, number {number}"})
        statuses.append(answer.json()["embedding_status"])

    async def keep_adding() -> None:
        for number in range(100_000):
            adds.add(asyncio.create_task(add(number)))
            await asyncio.sleep(every_seconds)

    task = asyncio.create_task(keep_adding())
    try:
        yield statuses
    finally:
        task.cancel()
        await asyncio.gather(*adds)


async def test_a_switch_happens_while_memories_are_written_all_the_time(
    world: World, api: Api, vendor: StubVendor, slow: StubVendor
) -> None:
    """The new embedder takes longer for a call than passes between two writes."""
    slow.latency_ms = 700
    await world.stored(30)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the first space is complete")
        async with writing(api, 0.15) as statuses:
            await until(lambda: len(statuses) > 5, "memories are written")
            world.cluster.apply("memory", provider(slow, "b"))
            await until(
                lambda: world.value("select active_space_id = 2 from memory_registry"), "the new space is active"
            )
            before = len(statuses)
            await until(lambda: len(statuses) > before, "memories are still written")
        assert set(statuses) == {"embedded"}
        await until(lambda: lacking_none(world, 2), "what was pending is filled")
    await sound(world, 2)
    assert len(sent(slow)) == len(set(sent(slow)))


async def lacking_none(world: World, space_id: int) -> bool:
    return await lacking(world, space_id) == 0


async def test_a_write_waits_only_for_the_active_space_and_pays_no_other_twice(
    world: World, api: Api, vendor: StubVendor, slow: StubVendor
) -> None:
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the first space is complete")
        world.cluster.apply("second", provider(slow, "b"))
        await until(lambda: complete(world, 2), "the second space is complete")
        slow.forget()
        slow.fault = Fault(hold=True)
        for number in range(5):
            added = await api.post("/memory/add", {"text": f"text {number}"})
            assert added.json()["embedding_status"] == "embedded"
        own = "select count(*) from memory_usage_ledger where purpose = 'add' and space_id = 2"
        assert await world.value(own) == 0
        slow.fault = None
        await until(lambda: lacking_none(world, 2), "the second space has them too")
    await sound(world, 2)
    assert sorted(sent(slow)) == [f"text {number}" for number in range(5)]


async def test_chunks_that_came_while_nothing_was_embedded_for_a_space_are_filled_before_it_is_ready(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: world.value("select count(*) > 0 from memory_reembed_jobs"), "a fill has begun")
        await world.stored(20)  # beyond its bound, and not marked as pending
        async with world.worker():
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await world.value("select count(*) from memory_vectors_1") == 40


async def test_a_pending_chunk_in_an_open_range_is_paid_once_however_long_its_commit_takes(
    world: World, vendor: StubVendor
) -> None:
    texts = [f"both pending and in a range, number {number}" for number in range(5)]
    await world.stored_texts(texts)
    async with world.operator():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: world.value("select count(*) > 0 from memory_reembed_leases"), "there is a range")
        async with world.store.dedicated("memory-test-lock") as conn:
            reading_only = conn.transaction()
            await reading_only.start()
            await conn.execute("lock table memory_vectors_1 in share mode")
            await world.store_pending(1)
            async with world.worker(), world.worker():
                await until(lambda: sent(vendor), "the pending chunks are sent")
                await until(
                    lambda: world.value("select not exists (select 1 from memory_reembed_leases where state = 'open')"),
                    "the range is read while the commit waits",
                )
                await asyncio.sleep(0.5)
                await reading_only.rollback()
                await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert sorted(sent(vendor)) == sorted(texts)
