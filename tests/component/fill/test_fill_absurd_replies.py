"""What a vendor says beside its vectors is from outside: whatever it is, vectors are stored and sums can be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures.api import Api
from fixtures.engine import World
from fixtures.fills import begun, complete, provider, sound
from fixtures.waiting import until
from vendor.script import Fault
from vendor.stub import StubVendor

ABSURD = [
    str(2**63 - 1),
    str(2**63),
    str(2**64 - 1),
    str(2**64),
    "9" * 400,
    "1e400",
    "-1",
    str(-(2**63) - 1),
    "1.5",
    "NaN",
    '"many"',
    "[7]",
    "1000000000",
]


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def bounded(world: World) -> None:
    """Assert that no count in the ledger is above what so many texts can have."""
    beyond = (
        "select count(*) from memory_usage_ledger where tokens < 0 or tokens > 10 * estimated_tokens + 1000 * inputs"
    )
    assert await world.value(beyond) == 0


@pytest.mark.parametrize("count", ABSURD)
async def test_a_fill_and_an_add_keep_their_vectors_whatever_the_vendor_counts(
    world: World, api: Api, vendor: StubVendor, count: str
) -> None:
    vendor.fault = Fault(count=count)
    await world.stored(20)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
        added = await api.post("/memory/add", {"text": "one more"})
        assert (added.status_code, added.json()["embedding_status"]) == (201, "embedded")
    await sound(world)
    await bounded(world)
    assert await world.value("select count(*) from memory_embedding_quarantine") == 0
    for path in ("/v1/usage", "/v1/usage?group_by=tenant", "/v1/quotas", "/v1/jobs"):
        assert (await api.get(path)).status_code == 200


@pytest.mark.parametrize("value", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "9" * 400])
async def test_a_fill_goes_on_after_a_retry_after_that_is_no_time(world: World, vendor: StubVendor, value: str) -> None:
    await world.stored(20)
    async with world.operator():
        await begun(world, vendor)
        vendor.fault = Fault(status=429, retry_after=value, times=2)
        async with world.worker():
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def test_estimates_do_not_follow_a_vendor_that_counts_ever_more(world: World, vendor: StubVendor) -> None:
    """Each count is believable beside an estimate that the counts before it have made."""
    vendor.fault = Fault(count="2000")
    await world.stored(400)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor, batchSize=1))
        await until(lambda: complete(world), "the fill is complete")
    await bounded(world)
    assert await world.value("select max(estimated_tokens) from memory_usage_ledger") < 100


async def test_what_release_0_1_stored_of_such_counts_stops_no_fill_and_no_answer(
    world: World, api: Api, vendor: StubVendor
) -> None:
    async with world.operator():
        await world.stored(20)
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: world.value("select count(*) > 0 from memory_reembed_jobs"), "a job is there")
        await world.fetch("update memory_reembed_jobs set tokens = $1, spent_tokens = $1", 2**63 - 1)
        await world.fetch(
            "insert into memory_usage_daily (namespace, name, day, spent_tokens)"
            " values ('default', 'memory', (now() at time zone 'utc')::date, $1)",
            2**63 - 1,
        )
        await world.fetch(
            "insert into memory_usage_ledger (call_id, state, purpose, provider_namespace, provider_name, model,"
            " inputs, estimated_tokens, tokens) select gen_random_uuid(), 'answered', 'fill', 'default', 'memory', 'a',"
            " 1, 1, $1 from generate_series(1, 3)",
            2**63 - 1,
        )
        async with world.worker():
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    answer = await api.get("/v1/usage")
    assert answer.status_code == 200
    assert answer.json()["total"]["tokens"] > 3 * (2**63 - 1)
    assert (await api.get("/v1/quotas")).status_code == 200
