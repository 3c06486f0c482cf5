"""Two changes that meet at the worst moment: each test holds one of them where the other does the most harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from fixtures.engine import Cluster, World, open_world
from fixtures.waiting import until
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.ports.sources import Listing
from memory_operator.engine.spaces import activation
from memory_operator.errors import StoreUnavailable
from memory_operator.store.db import locks
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import translate_errors
from memory_operator.store.jobs import jobs, leases
from memory_operator.store.spaces import providers, registry, spaces
from vendor.script import Fault
from vendor.stub import StubVendor

BY = Actor("tester", "test")


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def provider(vendor: StubVendor, model: str = "a", dimensions: int = 64, **embedding: Any) -> dict[str, Any]:
    return {
        "type": "openai_compatible",
        "model": model,
        "baseURL": vendor.base_url,
        "embedding": {"dimensions": dimensions, "batchSize": 8, **embedding},
    }


async def states(world: World) -> dict[str, str]:
    """State of each space by its model."""
    rows = await world.fetch("select config->>'model' as model, state from memory_embedding_spaces order by id")
    return {row["model"]: row["state"] for row in rows}


async def test_an_edit_taken_back_while_the_fill_beside_is_switched_ends_with_the_old_space_active(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator():
        async with world.worker():
            ref = world.cluster.apply("memory", provider(vendor))
            await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", provider(vendor, "b"))
        await until(
            lambda: world.value("select beside_space_id = 2 from memory_providers"), "space 2 fills beside the first"
        )
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            world.cluster.apply("memory", provider(vendor))
            await until(world.waits_for_a_lock, "somebody waits for a lock")
            row, beside = await providers.by_space(conn, 2), await spaces.get(conn, 2)
            assert row is not None
            assert beside is not None
            await activation.switch(conn, row, beside, BY)
        async with world.worker():
            await until(lambda: world.value("select active_space_id = 1 from memory_registry"), "space 1 is active")
            await world.until_phase(ref, "Ready")
    assert await states(world) == {"a": "ready", "b": "retired"}


async def test_a_provider_deleted_while_its_edit_is_probed_gets_no_space_any_more(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        vendor.fault = Fault(hold=True)
        world.cluster.apply("memory", provider(vendor, "b"))
        await until(lambda: vendor.in_flight, "a call is under way")
        world.cluster.delete(ref)
        await until(
            lambda: world.value("select absent_since is not null from memory_providers"),
            "the Provider is seen to be gone",
        )
        vendor.fault = None
        await until(
            lambda: world.value(
                "select count(*) = 0 from pg_locks where locktype = 'advisory' and classid = $1", locks.PROVIDERS
            ),
            "no reconcile is under way any more",
        )
    assert await states(world) == {"a": "orphaned"}


async def test_a_change_is_not_held_for_a_provider_that_has_just_gone(world: World, vendor: StubVendor) -> None:
    await world.stored(20)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await conn.execute("select 1 from memory_providers for share")
            world.cluster.apply("memory", provider(vendor, dimensions=32))
            await until(world.waits_for_a_lock, "somebody waits for a lock")
            world.cluster.delete(ref)
        await until(
            lambda: world.value("select absent_since is not null from memory_providers"),
            "the Provider is seen to be gone",
        )
        assert await world.value("select count(*) from memory_pending_changes") == 0


async def test_a_look_that_waited_for_the_lock_does_not_bring_a_deleted_provider_back(
    world: World, vendor: StubVendor
) -> None:
    async def locking() -> int:
        """Sessions that hold a Provider's lock or wait for it."""
        return int(
            await world.value(
                "select count(*) from pg_stat_activity where application_name = 'memory-lock'"
                " and datname = current_database()"
            )
        )

    async with world.operator() as operator, world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        async with locks.provider_lock(world.store, ref, 5):
            operator.enqueue(ref)
            await until(lambda: is_(locking, 2), "two change the registry")
            world.cluster.delete(ref)
            await until(
                lambda: world.value("select absent_since is not null from memory_providers"),
                "the Provider is seen to be gone",
            )
        await until(lambda: is_(locking, 0), "nobody changes the registry")
        assert await world.value("select absent_since is not null from memory_providers")
        assert await states(world) == {"a": "orphaned"}


async def is_(count: Callable[[], Awaitable[int]], wanted: int) -> bool:
    """Whether a count is what it should be."""
    return await count() == wanted


class SlowList(Cluster):
    """An API server whose answers to a list may be long on their way."""

    def __init__(self) -> None:
        super().__init__()
        self.arrives = asyncio.Event()
        self.arrives.set()
        self.under_way = 0

    async def list(self) -> Listing:
        listed = await super().list()
        self.under_way += 1
        await self.arrives.wait()
        self.under_way -= 1
        return listed


@pytest.fixture
async def slow(database: str) -> AsyncIterator[World]:
    """A world with such an API server."""
    async with open_world(database, SlowList()) as opened:
        yield opened


async def test_a_provider_made_after_a_listing_began_is_not_absent_from_it(slow: World, vendor: StubVendor) -> None:
    cluster = slow.cluster
    assert isinstance(cluster, SlowList)
    async with slow.operator() as operator, slow.worker():
        await until(lambda: operator.not_ready() is None, "the operator is ready")
        cluster.arrives.clear()
        operator.listed_again()
        await until(lambda: cluster.under_way, "a listing is under way")
        ref = cluster.apply("memory", provider(vendor))
        await slow.until_phase(ref, "Ready")
        before = await slow.value("select clock_timestamp()")
        cluster.arrives.set()
        await until(
            lambda: slow.value("select observed_at > $1 from memory_providers", before), "the next listing has come"
        )  # by the next listing
        assert await slow.value("select absent_since is null from memory_providers")
        assert await slow.value("select count(*) = 0 from memory_activity where kind = 'orphan'")


async def test_a_full_space_beside_is_switched_to_once_activation_is_automatic(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor, activation="Manual"))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", provider(vendor, "b", activation="Manual"))
        await until(
            lambda: world.value("select state = 'ready' from memory_embedding_spaces where id = 2"), "space 2 is ready"
        )
        assert await world.value("select active_space_id from memory_registry") == 1
        world.cluster.apply("memory", provider(vendor, "b"))
        await until(lambda: world.value("select active_space_id = 2 from memory_registry"), "space 2 is active")
    assert await states(world) == {"a": "retired", "b": "ready"}


async def test_a_spec_that_cannot_be_read_does_not_make_a_manual_provider_switch(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator():
        async with world.worker():
            ref = world.cluster.apply("memory", provider(vendor, activation="Manual"))
            await world.until_phase(ref, "Ready")
        edited = provider(vendor, "b", activation="Manual")
        world.cluster.apply("memory", edited)
        await until(
            lambda: world.value("select beside_space_id = 2 from memory_providers"), "space 2 fills beside the first"
        )
        world.cluster.apply("memory", {**edited, "modle": "c"})
        await world.until_phase(ref, "Error")
        async with world.worker():
            await until(
                lambda: world.value("select state = 'ready' from memory_embedding_spaces where id = 2"),
                "space 2 is ready",
            )
    assert await world.value("select active_space_id from memory_registry") == 1


async def test_while_a_change_is_held_nothing_that_was_asked_for_before_takes_the_place_of_the_applied_space(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", provider(vendor, "b", activation="Manual"))
        await until(
            lambda: world.value("select beside_space_id = 2 from memory_providers"), "space 2 fills beside the first"
        )
        world.cluster.apply("memory", provider(vendor, "b", 32))
        await world.until_phase(ref, "Held")
        assert (await states(world))["b"] == "retired"
        assert await world.value("select active_space_id from memory_registry") == 1
        world.cluster.apply("memory", provider(vendor, "b"))
        await until(lambda: world.value("select active_space_id = 2 from memory_registry"), "space 2 is active")
    assert await states(world) == {"a": "retired", "b": "ready"}


async def test_an_edit_that_is_refused_leaves_nothing_held(world: World, vendor: StubVendor) -> None:
    await world.stored(20)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", provider(vendor, dimensions=32))
        await world.until_phase(ref, "Held")
        world.cluster.apply("memory", provider(vendor, dimensions=3072))
        await until(
            lambda: world.cluster.condition(ref, "DimensionSettled").reason == "DimensionAboveLimit",
            "the dimension is told as above the limit",
        )
        assert await world.value("select count(*) from memory_pending_changes") == 0
        assert await world.value("select active_space_id from memory_registry") == 1


async def test_a_fill_is_cancelled_in_the_middle_of_a_batch_without_a_deadlock(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: world.value("select count(*) = 1 from memory_reembed_leases"), "one range is left")
    async with world.store.connection() as conn:
        lease = await leases.claim(conn, 1, "test", 1, await leases.backend_of(conn))
    assert lease is not None

    async def cancel() -> None:
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await jobs.cancel(conn, 1)

    async with world.store.transaction() as conn:
        await jobs.advance(conn, lease.job_id, 5, 0, 0)
        cancelling = asyncio.create_task(cancel(), name="cancel")
        await until(world.waits_for_a_lock, "somebody waits for a lock")
        await leases.fence(conn, [lease])
    await cancelling
    assert await world.value("select state from memory_reembed_jobs") == "cancelled"
    assert await world.value("select state from memory_reembed_leases") == "leased"


async def test_a_connection_that_hears_of_a_killed_server_in_mid_statement_is_the_store_being_away() -> None:
    with pytest.raises(StoreUnavailable):
        async with translate_errors():
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")


async def test_activating_is_not_undone_by_a_space_that_is_completed_later(world: World, vendor: StubVendor) -> None:
    await world.stored(40)
    async with world.operator(), world.worker():
        first = world.cluster.apply("first", provider(vendor))
        await world.until_phase(first, "Ready")
        second = world.cluster.apply("second", provider(vendor, "b", 32))
        await world.until_phase(second, "Ready")
        world.cluster.apply("first", provider(vendor, "c"))
        await Catalog(world.store).activate(None, "default/second", BY)
        await until(
            lambda: world.cluster.statuses[first].embedding.embedding_version == "c-64-3",
            "the first Provider has the space of model c",
        )
        await world.until_phase(first, "Ready")
        assert await world.value("select active_space_id from memory_registry") == 2


async def test_writers_who_come_later_do_not_overtake_a_switch_that_waits(world: World) -> None:
    order: list[str] = []

    async def take(name: str, hold: Callable[[Any], Awaitable[Any]]) -> None:
        async with world.store.transaction() as conn:
            await hold(conn)
            order.append(name)

    async with world.store.transaction() as conn:
        await registry.lock_registry_shared(conn)
        switching = asyncio.create_task(take("switch", registry.lock_registry_exclusive), name="switch")
        await until(world.waits_for_a_lock, "somebody waits for a lock")
        writing = asyncio.create_task(take("writer", registry.lock_registry_shared), name="writer")
        await until(
            lambda: world.value("select count(*) = 2 from pg_stat_activity where wait_event_type = 'Lock'"),
            "two wait for a lock",
        )
    await asyncio.gather(switching, writing)
    assert order == ["switch", "writer"]
