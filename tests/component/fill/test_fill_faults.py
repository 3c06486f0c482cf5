"""A vendor that misbehaves in the middle of a fill: each chunk is embedded or in quarantine, each call is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from fixtures.engine import World
from fixtures.fills import answered_tokens, begun, complete, lacking, ledger, provider, sound, tokens
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import PROBE_TEXT
from memory_operator.engine.embedding.circuit_breaker import LAST_REST_SECONDS
from vendor.script import Fault
from vendor.stub import StubVendor

CHUNKS = 60


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def said(world: World, ref: ProviderRef) -> str:
    """Message of the condition Reachable."""
    condition = world.cluster.condition(ref, "Reachable")
    return condition.message if condition else ""


async def told_truly(world: World, vendor: StubVendor) -> None:
    """Assert that the ledger has a row for each call that arrived, and the tokens of each that was answered."""
    told = await ledger(world)
    probes = await world.value("select count(*) from memory_usage_ledger where space_id is null")
    assert sum(told.values()) + probes == vendor.count
    assert "sent" not in told


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, times=4),
        Fault(status=429, retry_after="1", times=2),
        Fault(status=500, times=3),
        Fault(status=503, retry_after="1", times=2),
        Fault(reset="before", times=3),
        Fault(reset="midway", times=3),
        Fault(truncate=True, times=2),
        Fault(vectors=1, times=2),
        Fault(vectors=-1, times=2),
        Fault(length=1, times=2),
        Fault(value="nan", times=2),
        Fault(value="zero", times=2),
    ],
    ids=lambda fault: "-".join(
        f"{name}={getattr(fault, name)}" for name in ("status", "retry_after", "reset", "value")
    ),
)
async def test_after_a_fault_that_passes_every_chunk_has_its_vector_and_each_text_was_answered_once(
    world: World, vendor: StubVendor, fault: Fault
) -> None:
    async with world.operator():
        await world.stored(CHUNKS)
        await begun(world, vendor)
        vendor.fault = fault
        async with world.worker():
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await world.value("select count(*) from memory_embedding_quarantine") == 0
    await told_truly(world, vendor)
    texts = [text for call in vendor.calls for text in call.inputs if text != PROBE_TEXT]
    assert await answered_tokens(world) == tokens(list(set(texts))) + await probes_answered(world)


async def probes_answered(world: World) -> int:
    """Tokens of the probes that were answered."""
    return int(
        await world.value(
            "select coalesce(sum(tokens), 0) from memory_usage_ledger where state = 'answered' and purpose = 'probe'"
        )
    )


async def test_a_vendor_that_always_says_429_is_asked_ever_more_seldom_and_the_fill_ends_once_it_stops(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        await world.stored(CHUNKS)
        ref = world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the first are filled")
        vendor.fault = Fault(status=429)
        await world.stored(CHUNKS)
        await world.store_pending(1)
        await until(
            lambda: world.cluster.condition(ref, "Reachable").status == "False", "the vendor is told as unreachable"
        )
        assert world.cluster.condition(ref, "Reachable").reason == "RateLimited"
        count = vendor.count
        await asyncio.sleep(2)
        assert vendor.count - count < 15  # at one pace it would be hundreds
        vendor.fault = None
        await until(lambda: complete(world), "the fill is complete")
        await until(
            lambda: world.cluster.condition(ref, "Reachable").status == "True", "the vendor is told as reachable"
        )
    await sound(world)
    await told_truly(world, vendor)


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_obeyed_as_seconds_and_as_a_date(world: World, vendor: StubVendor, as_date: bool) -> None:
    async with world.operator():
        await world.stored(CHUNKS)
        await begun(world, vendor)
        until_then = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
        vendor.fault = Fault(status=429, retry_after=until_then if as_date else "3", times=1)
        vendor.forget()
        async with world.worker():
            await until(lambda: vendor.count >= 1, "the first call")
            await asyncio.sleep(1)
            assert vendor.count == 1
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def test_a_vendor_that_hangs_opens_the_circuit_and_a_condition_says_so(world: World, vendor: StubVendor) -> None:
    spec = {**provider(vendor), "defaults": {"requestTimeout": "300ms"}}
    await world.stored(CHUNKS)
    async with world.operator():
        ref = world.cluster.apply("memory", spec)
        await until(lambda: world.value("select count(*) > 0 from memory_reembed_jobs"), "a job is there")
        vendor.fault = Fault(hold=True)
        async with world.worker():
            await until(lambda: "circuit is open" in said(world, ref), "the condition says that the circuit is open")
            assert world.phase(ref) == "Unavailable"
            vendor.fault = None
            await until(lambda: complete(world), "the fill is complete")
            await world.until_phase(ref, "Ready")
    await sound(world)
    told = await ledger(world)
    assert told["unanswered"] >= 5
    unknown = "select count(*) from memory_usage_ledger where state = 'unanswered' and tokens is not null"
    assert await world.value(unknown) == 0


async def test_texts_that_the_vendor_refuses_are_found_by_halving_and_put_into_quarantine(
    world: World, vendor: StubVendor
) -> None:
    await world.stored_texts([*[f"good text {n}" for n in range(100)], "a poison text", "another poison text"])
    vendor.fault = Fault(status=400, containing="poison")
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor, batchSize=32))
        await until(lambda: complete(world), "the fill is complete")
        await world.until_phase(ref, "Ready")
        assert world.cluster.statuses[ref].embedding.quarantined == 2
        assert world.cluster.statuses[ref].embedding.coverage == 1
    await sound(world)
    rows = await world.fetch("select reason, attempts from memory_embedding_quarantine")
    assert [row["attempts"] for row in rows] == [1, 1]
    await told_truly(world, vendor)


async def test_a_reply_that_never_can_be_used_for_one_text_costs_that_text_only(
    world: World, vendor: StubVendor
) -> None:
    await world.stored_texts([*[f"good text {n}" for n in range(40)], "a poison text"])
    vendor.fault = Fault(value="nan", containing="poison")
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await world.value("select count(*) from memory_embedding_quarantine") == 1
    told = await ledger(world)
    assert told["unusable"] >= 1


async def test_a_text_that_is_too_long_is_not_sent(world: World, vendor: StubVendor) -> None:
    await world.stored_texts(["x" * 65_536, "y" * 65_537, "short"])
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    reasons = await world.fetch("select reason from memory_embedding_quarantine")
    assert ["65536 bytes" in row["reason"] for row in reasons] == [True]
    assert max(len(text) for text in vendor.inputs) == 65_536


async def test_a_model_that_changes_its_length_in_the_middle_has_nothing_written_and_nothing_quarantined(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator():
        await world.stored(CHUNKS)
        ref = await begun(world, vendor)
        vendor.fault = Fault(length=1)
        async with world.worker():
            await until(
                lambda: world.cluster.condition(ref, "Reachable").status == "False", "the vendor is told as unreachable"
            )
            assert await world.value("select count(*) from memory_vectors_1") == 0
            assert await world.value("select count(*) from memory_embedding_quarantine") == 0
            vendor.fault = None
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def test_a_rotated_secret_is_read_anew_in_the_middle_of_a_fill(world: World, vendor: StubVendor) -> None:
    vendor.api_key, vendor.latency_ms = "old-key", 30
    world.cluster.secrets[("default", "vendor")] = {"api-key": "old-key"}
    spec = {**provider(vendor), "credential": {"secretRef": {"name": "vendor"}}}
    await world.stored(200)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", spec)
        await until(
            lambda: world.value("select sum(n) > 0 from memory_embedding_counters where scope = 1"),
            "the first vectors are counted",
        )
        vendor.api_key = "new-key"
        world.cluster.secrets[("default", "vendor")] = {"api-key": "new-key"}
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert {"old-key", "new-key"} <= set(vendor.keys)
    told = await ledger(world)
    assert told["refused"] >= 1


async def test_a_provider_edited_in_the_middle_of_a_fill_is_called_as_it_is_now(
    world: World, vendor: StubVendor
) -> None:
    vendor.latency_ms = 200
    await world.stored(400)
    async with world.operator(), world.worker():
        spec = provider(vendor)
        world.cluster.apply("memory", spec)
        await until(
            lambda: world.value("select sum(n) > 0 from memory_embedding_counters where scope = 1"),
            "the first vectors are counted",
        )
        world.cluster.apply("memory", {**spec, "headers": {"x-team": "blue"}})
        await until(
            lambda: any(call.headers.get("x-team") == "blue" and len(call.inputs) > 1 for call in vendor.calls),
            "a batch is sent with the new header",
        )
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def test_after_an_outage_what_is_pending_is_filled_and_nobody_rests_as_long_as_ten_seconds(
    world: World, vendor: StubVendor
) -> None:
    assert LAST_REST_SECONDS < 10
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        vendor.stop()
        await world.stored(50)
        await world.store_pending(1)
        await until(
            lambda: world.cluster.condition(ref, "Reachable").status == "False", "the vendor is told as unreachable"
        )
        vendor.start()
        await until(lambda: is_filled(world), "nothing lacks a vector")
        await world.until_phase(ref, "Ready")
    await sound(world)


async def is_filled(world: World) -> bool:
    """Whether nothing is lacking."""
    return await lacking(world) == 0
