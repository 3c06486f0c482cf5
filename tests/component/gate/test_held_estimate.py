"""What a held change is said to cost is what its fill then counts, by the same counter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures.engine import World
from fixtures.fills import complete, provider
from fixtures.waiting import until
from vendor.script import Fault
from vendor.stub import StubVendor

PREFIX = "search_document: "


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_a_held_change_is_estimated_as_its_fill_counts(world: World, vendor: StubVendor, prefix: str) -> None:
    """The newest thousand texts are the shortest: an average of them would be a third of the truth."""
    vendor.fault = Fault(no_usage=True)
    await world.stored_texts([f"{number} {'long ' * 150}" for number in range(150)])
    await world.stored_texts([f"short {number}" for number in range(1000)])
    async with world.operator():
        ref = world.cluster.apply("memory", provider(vendor, documentPrefix=prefix))
        async with world.worker():
            await until(lambda: complete(world), "the first space is full")
        world.cluster.apply("memory", provider(vendor, dimensions=32, documentPrefix=prefix))
        await world.until_phase(ref, "Held")
        told = await world.value("select estimated_tokens from memory_pending_changes")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
        await until(lambda: world.value("select max(id) = 2 from memory_embedding_spaces"), "the change is applied")
        async with world.worker():
            await until(lambda: complete(world, 2), "the second space is full")
    counted = await world.value(
        "select sum(estimated_tokens) from memory_usage_ledger where space_id = 2 and purpose = 'fill'"
    )
    assert told == pytest.approx(float(counted), rel=0.05)
