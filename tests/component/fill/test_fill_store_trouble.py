"""A database that misbehaves in the middle of a fill, and people who go on working meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from fixtures.engine import World, open_world
from fixtures.fills import complete, ledger, provider, sent, some_are_stored, sound
from fixtures.waiting import until
from memory_operator.dev.postgres.server import EmbeddedPostgres
from memory_operator.engine.memories.prepare import NewMemory
from memory_operator.engine.memories.remember import Changes, Remember
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.migrate import migrate
from vendor.stub import StubVendor

CHUNKS = 600
AGENT = Actor("agent", "test")


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64, latency_ms=40) as stub:
        yield stub


@pytest.mark.parametrize(("how", "waits"), [("fast", True), ("immediate", True), ("immediate", False)])
async def test_a_database_that_is_restarted_in_the_middle_of_a_fill_ends_with_all_vectors(
    own_postgres: EmbeddedPostgres, vendor: StubVendor, how: str, waits: bool
) -> None:
    """Also one that acknowledges commits before they are on its disk (`waits` False), and so forgets some of them."""
    running = await asyncio.to_thread(own_postgres.start)
    await migrate(running.dsn)
    async with open_world(running.dsn) as world:
        await world.fetch(f"alter role current_user set synchronous_commit = {'on' if waits else 'off'}")
    async with open_world(running.dsn) as world:
        await world.stored(CHUNKS)
        async with world.operator(), world.worker():
            world.cluster.apply("memory", provider(vendor))
            await some_are_stored(world)
            await asyncio.to_thread(own_postgres.stop, how)
            await asyncio.to_thread(own_postgres.start)
            await until(lambda: quietly_complete(world), "the fill is complete, while the database comes and goes")
        await sound(world, await space_of(world))
        told = await ledger(world)
    if waits:
        # What was written down just as the server went away may never have left.
        assert told.get("sent", 0) <= 4
        texts = sent(vendor)
        assert len(texts) - len(set(texts)) <= 64


async def space_of(world: World) -> int:
    """Number of the only space; another one than before where the server forgot the space itself."""
    return int(await world.value("select id from memory_embedding_spaces"))


async def quietly_complete(world: World) -> bool:
    """Whether the fill is complete; False while the database does not answer."""
    try:
        return await complete(world, await space_of(world))
    except Exception:  # noqa: BLE001 - it is on its way back
        return False


async def test_a_disk_that_is_full_for_a_while_holds_the_fill_up_and_nothing_is_paid_again(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(CHUNKS)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await some_are_stored(world)
        async with world.store.connection() as conn:
            await conn.execute(
                "create function full_disk() returns trigger language plpgsql as"
                " $$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$;"
                " create trigger full_disk before insert on memory_vectors_1 execute function full_disk()"
            )
            await asyncio.sleep(1.5)
            assert await world.value("select count(*) < $1 from memory_vectors_1", CHUNKS)
            await conn.execute("drop trigger full_disk on memory_vectors_1")
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    texts = sent(vendor)
    assert len(texts) == len(set(texts)) == CHUNKS


async def test_a_pool_that_is_exhausted_for_a_while_holds_the_fill_up_and_no_more(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(CHUNKS)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await some_are_stored(world)
        async with AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(world.store.connection())
            await asyncio.sleep(2)
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def test_memories_added_changed_and_deleted_during_a_fill_end_as_they_should(
    world: World, vendor: StubVendor
) -> None:
    remember = Remember(world.store, world.connector, world.keys)
    async with world.operator():
        known = [await remember.add("default", NewMemory(f"known {number}"), AGENT) for number in range(40)]
        await world.stored(CHUNKS)
        async with world.worker():
            world.cluster.apply("memory", provider(vendor))
            await some_are_stored(world)
            for number, memory in enumerate(known):
                if number % 3 == 0:
                    await remember.amend("default", memory.id, Changes(f"changed {number}"), AGENT)
                elif number % 3 == 1:
                    await remember.forget("default", memory.id, AGENT)
                await remember.add("default", NewMemory(f"added {number}"), AGENT)
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def test_what_is_written_during_a_fill_is_embedded_at_once(world: World, vendor: StubVendor) -> None:
    vendor.latency_ms = 100
    await world.stored(2_000)
    remember = Remember(world.store, world.connector, world.keys)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await some_are_stored(world)
        fresh = await remember.add("default", NewMemory("a fresh thought"), AGENT)
        assert fresh.embedding_status == "embedded"
        vendor.stop()
        late = await remember.add("default", NewMemory("a thought while the vendor is away"), AGENT)
        assert late.embedding_status == "pending"
        vendor.start()
        await until(
            lambda: world.value("select count(*) = 0 from memory_embedding_pending"), "nothing is pending any more", 10
        )
        assert await world.value("select count(*) from memory_vectors_1") < 2_000
