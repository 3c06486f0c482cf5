"""Many spaces and few connections: fills take turns, and heartbeats need nobody else's connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from fixtures.engine import World
from fixtures.fills import begun, complete, provider, sound
from fixtures.waiting import until
from memory_operator.settings import WorkerSettings
from vendor.script import Fault
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def test_spaces_take_turns_and_a_silent_vendor_keeps_no_place(world: World, vendor: StubVendor) -> None:
    most = 0

    async def all_but_the_silent_ones_are_ready() -> bool:
        nonlocal most
        writers = "select count(*) from pg_stat_activity where application_name = $1 and datname = current_database()"
        most = max(most, await world.value(writers, "memory-worker"))
        return bool(await world.value("select count(*) = 6 from memory_embedding_spaces where state = 'ready'"))

    await world.stored(10)
    with StubVendor(dimensions=64) as silent:
        async with world.operator():
            for name in ("silent-1", "silent-2"):
                spec = {**provider(silent, name), "defaults": {"requestTimeout": "10m"}}
                world.cluster.apply(name, spec)
                await until(
                    lambda name=name: world.value(
                        "select count(*) > 0 from memory_embedding_spaces where provider_name = $1", name
                    ),
                    "there is a space",
                )
            silent.fault = Fault(hold=True)
            for number in range(6):
                world.cluster.apply(f"other-{number}", provider(vendor, f"model-{number}"))
            async with world.worker(settings=WorkerSettings(fills_at_once=2), turn_seconds=0.5):
                await until(all_but_the_silent_ones_are_ready, "the others are ready")
                assert silent.in_flight
                silent.fault = None
                await until(
                    lambda: world.value("select bool_and(state = 'ready') from memory_embedding_spaces"),
                    "all are ready",
                )
    assert most == 3  # two, and one that only waits
    for space_id in range(1, 9):
        await sound(world, space_id)


async def test_many_silent_vendors_that_nobody_knows_yet_leave_places_for_others(
    world: World, vendor: StubVendor
) -> None:
    """They are tried beside the fills, and a call to any of them may take ten minutes."""
    await world.stored(10)
    silent = [StubVendor(dimensions=64) for _ in range(6)]
    with ExitStack() as stubs, StubVendor(dimensions=64) as known:
        async with world.operator():
            for number, stub in enumerate(silent):
                stubs.enter_context(stub)
                spec = {**provider(stub, f"model-{number}"), "defaults": {"requestTimeout": "10m"}}
                world.cluster.apply(f"silent-{number}", spec)
            await until(lambda: world.value("select count(*) = 6 from memory_embedding_spaces"), "all have a space")
            for stub in silent:
                stub.fault = Fault(hold=True)
            async with world.worker(settings=WorkerSettings(fills_at_once=2), turn_seconds=3_600):
                await until(lambda: all(stub.in_flight for stub in silent), "each of them was called")
                for number, stub in enumerate((vendor, known)):
                    world.cluster.apply(f"other-{number}", provider(stub))
                await until(
                    lambda: world.value("select count(*) = 2 from memory_embedding_spaces where state = 'ready'"),
                    "the others are ready",
                )
                writers = "select count(*) from pg_stat_activity where application_name = 'memory-worker'"
                writers += " and datname = current_database()"
                await until(lambda: _is(world, writers, 1), "one silent vendor has a place")
                for stub in silent:
                    stub.fault = None
                await until(
                    lambda: world.value("select bool_and(state = 'ready') from memory_embedding_spaces"),
                    "all are ready",
                )
    for space_id in range(1, 9):
        await sound(world, space_id)


async def _is(world: World, query: str, count: int) -> bool:
    return bool(await world.value(query) == count)


async def test_leases_are_renewed_while_others_have_all_connections_of_the_pool(
    world: World, vendor: StubVendor
) -> None:
    expires = "select extract(epoch from max(expires_at)) from memory_reembed_leases where state = 'leased'"
    await world.stored(10)
    async with world.operator():
        await begun(world, vendor)
        vendor.fault = Fault(hold=True)
        async with world.worker(), world.store.dedicated("memory-test-look") as conn:
            await until(lambda: vendor.in_flight, "a call is in flight")
            async with AsyncExitStack() as taken:
                for _ in range(world.store.pool_size):
                    await taken.enter_async_context(world.store.connection())
                before = await conn.fetchval(expires)
                for _ in range(2):  # one may have been on its way
                    at = await conn.fetchval(expires)
                    await until(lambda at=at: _later(conn, expires, at), "the lease is renewed")
                assert await conn.fetchval(expires) > before
            vendor.fault = None
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def _later(conn: object, query: str, than: object) -> bool:
    return bool(await conn.fetchval(query) > than)  # type: ignore[attr-defined]


async def test_a_job_is_paused_once_for_its_budget_until_there_is_room_for_a_call(
    world: World, vendor: StubVendor
) -> None:
    """Calls in flight count as estimated, more than is counted: each that ends leaves room for a text or two."""
    vendor.latency_ms = 200
    vendor.fault = Fault(count="30")
    await world.stored(200)
    async with world.operator():
        await begun(world, vendor, budget={"tokensPerJob": 700})
        await world.fetch("create table pauses (at timestamptz)")
        await world.fetch(
            "create function note() returns trigger language plpgsql as"
            " $$ begin insert into pauses values (now()); return new; end $$"
        )
        await world.fetch(
            "create trigger note after update on memory_reembed_jobs for each row"
            " when (new.state = 'paused' and old.state = 'running') execute function note()"
        )
        async with world.worker():
            await until(lambda: world.value("select count(*) > 0 from pauses"), "the job is paused")
            await asyncio.sleep(4)
            assert await world.value("select count(*) from pauses") == 1
            assert await world.value("select state = 'paused' from memory_reembed_jobs")
            spec = provider(vendor, budget={"tokensPerJob": 1_000_000})
            world.cluster.apply("memory", spec)
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
