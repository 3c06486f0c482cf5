"""Changes in the middle of other changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fixtures.engine import World
from fixtures.fills import provider, some_are_stored
from fixtures.waiting import until
from memory_operator.engine.memories.prepare import NewMemory
from memory_operator.engine.memories.remember import Remember
from memory_operator.store.db.activity import Actor
from memory_operator.store.spaces import registry
from vendor.script import Fault
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def consistent(world: World) -> None:
    """The active space has every live chunk, and the counters say so."""
    active = await world.value("select active_space_id from memory_registry")
    live = await world.value("select count(*) from memory_chunks where live")
    vectors = await world.value(f"select count(*) from memory_vectors_{active}")
    async with world.store.connection() as conn:
        counted = await registry.counted(conn)
    assert (live, vectors) == (counted[registry.CHUNKS], counted[active])
    assert live == vectors


def unexpected(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Errors that were logged, but for the message of a held change."""
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return [text for text in errors if not text.startswith("memory: changing the embedding dimension")]


async def test_a_reshape_in_the_middle_of_a_fill_ends_the_fill_without_a_trace(
    world: World, vendor: StubVendor, caplog: pytest.LogCaptureFixture
) -> None:
    await world.stored(300)
    vendor.latency_ms = 60
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await until(
            lambda: world.value("select sum(n) > 40 from memory_embedding_counters where scope = 1"),
            "more than 40 vectors are counted",
        )
        world.cluster.apply("memory", provider(vendor, dimensions=32))
        await world.until_phase(ref, "Held")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 32, "dimension 32 is applied")
        vendor.latency_ms = 0
        await world.until_phase(ref, "Ready")
    assert await world.value("select count(*) from memory_embedding_spaces") == 1
    await consistent(world)
    assert unexpected(caplog) == []


async def test_edits_in_quick_succession_end_with_the_last_one(
    world: World, vendor: StubVendor, caplog: pytest.LogCaptureFixture
) -> None:
    await world.stored(60)
    async with world.operator(), world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        for model in ("b", "c", "a", "b", "c", "d"):
            world.cluster.apply("memory", provider(vendor, model))
            await asyncio.sleep(0.05)
        await until(
            lambda: (world.cluster.statuses[ref].embedding.embedding_version or "").startswith("d-64"),
            "the space of model d is the applied one",
        )
        await world.until_phase(ref, "Ready")
        left = await world.fetch("select state, config->>'model' as model from memory_embedding_spaces")
        assert [row["model"] for row in left if row["state"] in ("ready", "filling")] == ["d"]
    await consistent(world)
    assert unexpected(caplog) == []


async def test_a_dimension_edit_in_the_middle_of_a_fill_beside_is_held_and_the_old_space_serves(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(200)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        vendor.latency_ms = 100
        world.cluster.apply("memory", provider(vendor, "b"))
        await until(lambda: world.value("select count(*) = 2 from memory_embedding_spaces"), "a second space is made")
        world.cluster.apply("memory", provider(vendor, "b", 32))
        await world.until_phase(ref, "Held")
        assert await world.value("select active_space_id from memory_registry") == 1
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
        vendor.latency_ms = 0
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 32, "dimension 32 is applied")
        await world.until_phase(ref, "Ready")
    await consistent(world)


async def test_deleted_and_made_again_in_the_middle_of_a_fill_goes_on_where_it_was(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(200)
    vendor.latency_ms = 60
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await some_are_stored(world)
        world.cluster.delete(ref)
        await until(
            lambda: world.value("select state = 'orphaned' from memory_embedding_spaces"), "the space is orphaned"
        )
        under_way = vendor.peak_in_flight
        world.cluster.statuses.clear()
        world.cluster.apply("memory", provider(vendor))
        vendor.latency_ms = 0
        await world.until_phase(ref, "Ready")
        assert await world.value("select active_space_id from memory_registry") == 1
    await consistent(world)
    texts = [text for text in vendor.inputs if "memory number" in text]
    assert len(set(texts)) == 200
    assert len(texts) <= 200 + under_way * 8


async def test_a_poisonous_text_is_put_aside_and_all_others_go_on(world: World, vendor: StubVendor) -> None:
    await world.stored(50)
    vendor.fault = Fault(containing="memory number 17 ", status=400)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        status = world.cluster.statuses[ref].embedding
        assert (status.vectors, status.chunks, status.quarantined) == (49, 50, 1)
        assert status.coverage == 1


async def test_a_vendor_that_comes_back_gets_the_pending_memories_within_ten_seconds(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        vendor.stop()
        remember = Remember(world.store, world.connector, world.keys)
        stored = await remember.add("default", NewMemory("written while the vendor is away"), Actor("t", "t"))
        assert stored.embedding_status == "pending"
        await until(lambda: world.phase(ref) == "Unavailable", "the Provider is unavailable")
        await asyncio.sleep(3)  # the pauses between tries grow
        vendor.start()
        await until(
            lambda: world.value("select count(*) = 1 from memory_vectors_1"), "the vector is stored", seconds=10
        )
        await world.until_phase(ref, "Ready")
