"""What holds a fill back: limits that all workers share, budgets, and people who pause, resume and cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pytest

from fixtures.engine import World
from fixtures.fills import answered_tokens, complete, provider, reason, sent, sound, tokens
from fixtures.waiting import until
from memory_operator.store.jobs import control
from vendor.stub import StubVendor

CHUNKS = 200


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def stored(world: World) -> int:
    """Vectors of the first space."""
    return int(await world.value("select coalesce(sum(n), 0) from memory_embedding_counters where scope = 1"))


async def most_in_a_second(world: World, what: str) -> int:
    """The most of something in any second of the ledger, by the clock of the database that keeps the limits."""
    second = "order by at range between interval '1 second' preceding and current row"
    return int(await world.value(f"select max(n) from (select {what} over ({second}) as n from memory_usage_ledger) l"))


async def test_requests_a_minute_are_kept_by_two_workers_together(world: World, vendor: StubVendor) -> None:
    await world.stored(80)
    async with world.operator(), world.worker(), world.worker():
        world.cluster.apply("memory", provider(vendor, limits={"requestsPerMinute": 120}))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert vendor.count > 10
    assert await most_in_a_second(world, "count(*)") <= 5  # two, a second's worth at the start, and one at the edge


async def test_tokens_a_minute_are_kept(world: World, vendor: StubVendor) -> None:
    await world.stored(60)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor, limits={"tokensPerMinute": 12_000}))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await answered_tokens(world) > 750
    assert await most_in_a_second(world, "sum(tokens)") <= 600  # 200, a second's worth at the start, and a call's debt


async def test_calls_at_a_time_are_bounded_for_two_workers_together(world: World, vendor: StubVendor) -> None:
    vendor.latency_ms = 50
    await world.stored(CHUNKS)
    async with world.operator(), world.worker(), world.worker():
        world.cluster.apply("memory", provider(vendor, limits={"concurrency": 2}))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert vendor.peak_in_flight <= 2


@pytest.mark.parametrize("bound", [{"tokensPerJob": 600}, {"costPerJob": "0.0006"}, {"tokensPerDay": 600}])
async def test_a_fill_pauses_at_its_budget_says_so_and_goes_on_when_it_is_raised(
    world: World, vendor: StubVendor, bound: dict[str, object]
) -> None:
    await world.stored(CHUNKS)
    spec = {**provider(vendor, budget=bound), "pricing": {"inputCostPer1K": "0.001"}}
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", spec)
        await until(lambda: reason(world, ref, "Populated") == "BudgetReached", "the fill pauses at its budget")
        assert "spec.embedding.budget" in world.cluster.condition(ref, "Populated").message
        assert ("Warning", "BudgetReached") in {(event.type, event.reason) for _, event in world.cluster.events}
        open_calls = "select count(*) = 0 from memory_usage_ledger where state = 'sent'"
        await until(lambda: world.value(open_calls), "no call is open")
        spent = await world.value("select spent_tokens from memory_reembed_jobs")
        assert 0 < spent <= 600
        assert spent == await answered_tokens(world) - await probe_tokens(world)
        done = await stored(world)
        count = vendor.count
        await asyncio.sleep(1.5)
        assert (vendor.count, await stored(world)) == (count, done)
        raised = {name: "9" if isinstance(most, str) else 10_000_000 for name, most in bound.items()}
        world.cluster.apply("memory", {**spec, **provider(vendor, budget=raised)})
        await until(lambda: complete(world), "the fill is complete")
        await world.until_phase(ref, "Ready")
    await sound(world)
    texts = sent(vendor)
    assert len(texts) == len(set(texts)) == CHUNKS
    job = (await world.fetch("select tokens, cost from memory_reembed_jobs"))[0]
    assert job["tokens"] == tokens(texts)
    assert job["cost"] == Decimal(tokens(texts)) / 1_000_000


async def probe_tokens(world: World) -> int:
    """Tokens of probes, which no budget bounds."""
    return int(await world.value("select coalesce(sum(tokens), 0) from memory_usage_ledger where purpose = 'probe'"))


async def test_the_tokens_of_a_call_for_two_tenants_are_split_and_add_up(world: World, vendor: StubVendor) -> None:
    await world.stored(13, "one")
    await world.stored(10, "two")
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor, batchSize=64))
        await until(lambda: complete(world), "the fill is complete")
    rows = await world.fetch(
        "select t.name, sum(l.tokens) as tokens, sum(l.inputs) as inputs, count(distinct l.call_id) as calls"
        " from memory_usage_ledger l join memory_tenants t on t.id = l.tenant_id group by t.name order by t.name"
    )
    assert [(row["name"], row["inputs"], row["calls"]) for row in rows] == [("one", 13, 1), ("two", 10, 1)]
    assert sum(row["tokens"] for row in rows) == tokens(sent(vendor))
    assert rows[0]["tokens"] > rows[1]["tokens"]


async def test_a_paused_fill_stores_what_is_under_way_and_calls_nobody_until_it_is_resumed(
    world: World, vendor: StubVendor
) -> None:
    vendor.latency_ms = 100
    await world.stored(CHUNKS)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await until(lambda: is_begun(world), "the fill has begun")
        async with world.store.transaction() as conn:
            await control.pause(conn, 1)
        await until(lambda: vendor.in_flight == 0, "no call is under way")
        await until(lambda: reason(world, ref, "Populated") == "FillPaused", "the fill is told as paused")
        count = vendor.count
        await asyncio.sleep(1.5)
        assert vendor.count == count
        texts = sent(vendor)
        assert await stored(world) == len(texts) < CHUNKS
        assert await world.value("select count(*) from memory_reembed_leases where state = 'leased'") == 0
        async with world.store.transaction() as conn:
            await control.resume(conn, 1)
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    texts = sent(vendor)
    assert len(texts) == len(set(texts)) == CHUNKS


async def is_begun(world: World) -> bool:
    """Whether some vectors are stored."""
    return await stored(world) > 0


async def test_a_cancelled_fill_stores_what_was_paid_and_leaves_nothing_claimed(
    world: World, vendor: StubVendor
) -> None:
    vendor.latency_ms = 100
    await world.stored(CHUNKS)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await until(lambda: is_begun(world), "the fill has begun")
        async with world.store.transaction() as conn:
            await control.cancel(conn, 1)
        await until(lambda: reason(world, ref, "Populated") == "FillCancelled", "the fill is told as cancelled")
        await until(lambda: vendor.in_flight == 0, "no call is under way")
        await until(lambda: world.value("select count(*) = 0 from memory_reembed_leases"), "no range is left")
        await until(lambda: all_that_was_sent_is_stored(world, vendor), "all that was paid is stored")
        assert await stored(world) < CHUNKS


async def all_that_was_sent_is_stored(world: World, vendor: StubVendor) -> bool:
    """Whether each text that was paid has its vector."""
    return await stored(world) == len(sent(vendor))
