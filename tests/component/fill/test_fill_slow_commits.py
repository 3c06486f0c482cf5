"""A store that takes long for each row, as beside a live index: commits are made as small as it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures.engine import World
from fixtures.fills import begun, complete, provider, sent, sound
from fixtures.waiting import until
from vendor.stub import StubVendor

CUT_OFF_SECONDS = 0.6


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def slow_rows(world: World, seconds: float) -> None:
    """Have each row of the first space take so long."""
    await world.fetch(
        "create function slow() returns trigger language plpgsql as"
        f" $$ begin perform pg_sleep({seconds}); return new; end $$"
    )
    await world.fetch("create trigger slow before insert on memory_vectors_1 for each row execute function slow()")


async def test_a_commit_that_is_cut_off_is_made_again_in_halves(world: World, vendor: StubVendor) -> None:
    await world.stored(60)
    async with world.operator():
        await begun(world, vendor, batchSize=60)
        await slow_rows(world, 0.02)
        async with world.worker(commit_seconds=CUT_OFF_SECONDS):
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert len(sent(vendor)) == 60


async def test_equal_texts_get_their_vectors_in_slices(world: World, vendor: StubVendor) -> None:
    await world.stored_texts(["the same"] * 60)
    async with world.operator():
        await begun(world, vendor)
        await slow_rows(world, 0.02)
        async with world.worker(commit_seconds=CUT_OFF_SECONDS):
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert sent(vendor) == ["the same"]
    assert await world.value("select done from memory_reembed_jobs") == 60


async def test_pending_chunks_with_equal_texts_are_stored_in_slices(world: World, vendor: StubVendor) -> None:
    async with world.operator():
        async with world.worker():
            world.cluster.apply("memory", provider(vendor))
            await until(lambda: complete(world), "the space is ready")
        await world.stored_texts(["the same"] * 60)
        await slow_rows(world, 0.02)
        await world.store_pending(1)
        async with world.worker(commit_seconds=CUT_OFF_SECONDS):
            await until(lambda: world.value("select count(*) = 0 from memory_embedding_pending"), "nothing is pending")
    await sound(world)
    assert sent(vendor) == ["the same"]
