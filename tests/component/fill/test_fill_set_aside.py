"""A text that fails alone while others succeed is set aside, tried again by itself, and comes out once it succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fixtures.engine import World
from fixtures.fills import begun, complete, provider, sent, sound
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from vendor.script import Fault
from vendor.stub import StubVendor

REFUSALS = [Fault(status=400, containing="poison"), Fault(value="nan", containing="poison")]
QUARANTINED = "select count(*) from memory_embedding_quarantine"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def is_unreachable(world: World, ref: ProviderRef) -> bool:
    condition = world.cluster.condition(ref, "Reachable")
    return condition is not None and condition.status == "False"


async def due(world: World) -> None:
    """Let the time come that refused texts are tried again."""
    await world.fetch("update memory_embedding_quarantine set retry_at = now() where retry_at < 'infinity'")


@pytest.mark.parametrize("value", ["nan", "zero"])
async def test_replies_that_nobody_can_use_for_some_seconds_set_no_good_text_aside(
    world: World, vendor: StubVendor, value: str
) -> None:
    vendor.latency_ms = 20
    await world.stored(61)
    async with world.operator():
        await begun(world, vendor, batchSize=2)
        async with world.worker():
            await until(
                lambda: world.value("select sum(n) > 4 from memory_embedding_counters where scope = 1"),
                "some vectors are stored",
            )
            vendor.fault = Fault(value=value)
            await asyncio.sleep(4)
            assert await world.value(QUARANTINED) == 0
            vendor.fault = None
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await world.value(QUARANTINED) == 0


@pytest.mark.parametrize("fault", [Fault(status=400), Fault(value="nan")])
async def test_nothing_is_set_aside_while_no_text_of_the_vendor_succeeds(
    world: World, vendor: StubVendor, fault: Fault
) -> None:
    await world.stored(5)
    async with world.operator():
        ref = await begun(world, vendor, batchSize=1)
        vendor.fault = fault
        async with world.worker():
            await until(lambda: is_unreachable(world, ref), "the condition says that the vendor fails")
            assert await world.value(QUARANTINED) == 0
            vendor.fault = None
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await world.value(QUARANTINED) == 0


@pytest.mark.parametrize("fault", REFUSALS)
async def test_a_text_that_is_set_aside_counts_as_quarantined_and_comes_out_when_it_succeeds(
    world: World, vendor: StubVendor, fault: Fault
) -> None:
    await world.stored_texts([*[f"good text {n}" for n in range(20)], "a poison text", "a poison text"])
    vendor.fault = fault
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
        status = await world.until_phase(ref, "Ready")
        assert (status.embedding.quarantined, status.embedding.coverage) == (2, 1)
        pause = "select bool_and(retry_at between since + interval '59 s' and since + interval '61 s')"
        assert await world.value(f"{pause} from memory_embedding_quarantine")

        await due(world)
        await until(
            lambda: world.value("select bool_and(attempts > 1) from memory_embedding_quarantine"),
            "they were tried again",
        )
        assert await world.value("select max(retry_at - since) from memory_embedding_quarantine") > await world.value(
            "select interval '119 s'"
        )
        assert await world.value("select state = 'ready' from memory_embedding_spaces")

        vendor.fault = None
        await due(world)
        await until(lambda: world.value(f"select ({QUARANTINED}) = 0"), "nothing is in quarantine")
    await sound(world)
    assert await world.value("select count(*) from memory_vectors_1") == 22
    assert sent(vendor).count("good text 7") <= 4


async def test_a_text_that_is_never_sent_is_not_tried_again(world: World, vendor: StubVendor) -> None:
    await world.stored_texts(["y" * 65_537, "short"])
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
    assert await world.value("select retry_at = 'infinity' from memory_embedding_quarantine")


async def test_a_refused_memory_that_is_forgotten_leaves_quarantine(world: World, vendor: StubVendor) -> None:
    await world.stored_texts(["good", "a poison text"])
    vendor.fault = REFUSALS[0]
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
        await world.fetch("update memory_chunks set live = false where id = 2")
        await world.fetch(
            "insert into memory_embedding_counters values (0, 0, -1)"
            " on conflict (scope, slot) do update set n = memory_embedding_counters.n - 1"
        )
        vendor.forget()
        await due(world)
        await until(lambda: world.value(f"select ({QUARANTINED}) = 0"), "nothing is in quarantine")
    await sound(world)
    assert sent(vendor) == []
