"""A rebuild fills a table afresh, while queries and writes go on with the old one; then the two change places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.proc import OwnProcess
from fixtures.engine import World
from fixtures.fills import begun, complete, sent, sound
from fixtures.memories import AGENT, Memories
from fixtures.waiting import until
from memory_operator.errors import SpaceVanished
from memory_operator.plan.index import FROM_VECTORS
from memory_operator.store.jobs import control, jobs
from memory_operator.store.spaces import registry
from vendor.script import Fault
from vendor.stub import StubVendor

TABLES = "select relname from pg_class where relname like 'memory\\_vectors\\_%' and relkind in ('r', 'i') order by 1"
DISTINCT = "select count(distinct embedding::text) from memory_vectors_1"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def rebuild(world: World) -> int:
    """Begin a rebuild of the first space."""
    async with world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        return await jobs.start(conn, 1, kind="reembed", replace=True)


async def all_alike(world: World) -> None:
    """Make all vectors of the first space the same, so that it shows which of them were made anew."""
    alike = "update memory_vectors_1 set embedding = (select embedding from memory_vectors_1 order by chunk_id limit 1)"
    await world.fetch(alike)


async def names(world: World) -> list[str]:
    """Names of the tables of vectors and of their indexes."""
    return [row["relname"] for row in await world.fetch(TABLES)]


async def state(world: World, job_id: int) -> str:
    return str(await world.value("select state from memory_reembed_jobs where id = $1", job_id))


async def is_done(world: World, job_id: int) -> bool:
    return await state(world, job_id) == "done"


async def filled(world: World, vendor: StubVendor, chunks: int) -> None:
    """A ready space of so many chunks, whose vectors are all alike; the vendor has forgotten them."""
    await world.stored(chunks)
    async with world.worker():
        await begun(world, vendor, batchSize=100)
        await until(lambda: complete(world), "the space is ready")
    await all_alike(world)
    vendor.forget()


async def test_it_makes_every_vector_anew_under_an_index_and_leaves_one_table_with_its_names(
    world: World, memories: Memories, vendor: StubVendor
) -> None:
    async with world.operator():
        await filled(world, vendor, FROM_VECTORS)
        before = await names(world)
        async with world.worker():
            job_id = await rebuild(world)
            await until(lambda: is_done(world, job_id), "the rebuild is done")
            await until(lambda: _are(world, before), "the old table is dropped")
            text = "memory about the gate of the mill"
            added = await memories.add(text)
            assert added.embedding_status == "embedded"
            answer = await memories.query(text, k=1)
    assert [hit.id for hit in answer.results] == [added.id]
    assert sum("_hnsw_" in name for name in before) == 1
    assert await world.value(DISTINCT) == FROM_VECTORS + 1
    assert len([text for text in sent(vendor) if text.startswith("memory number")]) == FROM_VECTORS
    assert await world.value("select count(*) from memory_embeddings") == FROM_VECTORS + 1
    await sound(world)


async def _are(world: World, wanted: list[str]) -> bool:
    return await names(world) == wanted


async def test_what_is_added_changed_and_purged_meanwhile_is_so_afterwards(
    world: World, memories: Memories, vendor: StubVendor
) -> None:
    async with world.operator():
        await filled(world, vendor, 40)
        old = [await memories.add(f"old one {number}") for number in range(3)]
        vendor.fault = Fault(hold=True, containing="memory number 39 ")
        async with world.worker():
            job_id = await rebuild(world)
            await until(lambda: vendor.in_flight, "a call is under way")
            new = await memories.add("new one, said meanwhile")
            await memories.remember.purge(memories.tenant, old[0].id, AGENT)
            await memories.remember.forget(memories.tenant, old[1].id, AGENT)
            assert {hit.id for hit in (await memories.query("said meanwhile", k=3)).results} >= {new.id}
            assert await state(world, job_id) == "running"
            vendor.fault = None
            await until(lambda: is_done(world, job_id), "the rebuild is done")
        found = {hit.id for hit in (await memories.query("one said meanwhile", k=10)).results}
    assert {new.id, old[2].id} <= found
    assert not found & {old[0].id, old[1].id}
    await memories.counted()
    await sound(world)


async def test_a_worker_that_is_killed_in_the_middle_pays_for_nothing_twice_that_it_had_stored(
    world: World, vendor: StubVendor, tmp_path: Path
) -> None:
    async with world.operator():
        await filled(world, vendor, FROM_VECTORS)
        before = await names(world)
        vendor.fault = Fault(hold=True, containing="memory number 990 ")
        job_id = await rebuild(world)
        stored = f"select count(*) from memory_vectors_1_job_{job_id}"
        with OwnProcess(tmp_path, world.dsn, "worker") as killed:
            await until(lambda: _stored(world, stored), "some of the vectors are made anew")
            killed.kill()
        there = await world.value(stored)
        sent_before = len(sent(vendor))
        vendor.fault = None
        assert await complete(world)
        async with world.worker():
            await until(lambda: is_done(world, job_id), "the rebuild is done")
            await until(lambda: _are(world, before), "the old table is dropped")
    assert len(sent(vendor)) - sent_before <= FROM_VECTORS - there
    assert await world.value(DISTINCT) == FROM_VECTORS
    await sound(world)


async def _stored(world: World, count: str) -> bool:
    try:
        return bool(await world.value(count))
    except SpaceVanished:
        return False


async def test_a_rebuild_that_is_cancelled_leaves_the_old_vectors_and_no_table(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator():
        await filled(world, vendor, 40)
        before = await names(world)
        vendor.fault = Fault(hold=True)
        async with world.worker():
            job_id = await rebuild(world)
            await until(lambda: vendor.in_flight, "a call is under way")
            assert await names(world) != before
            async with world.store.transaction() as conn:
                assert await control.cancel(conn, job_id)
                await jobs.wake(conn)
            vendor.fault = None
            await until(lambda: _are(world, before), "the table of the rebuild is dropped")
    assert await world.value(DISTINCT) == 1
    await sound(world)


async def test_it_waits_for_who_reads_the_old_table_and_leaves_the_way_to_others(
    world: World, memories: Memories, vendor: StubVendor
) -> None:
    async with world.operator():
        await filled(world, vendor, 40)
        before = await names(world)
        async with world.worker():
            async with world.store.dedicated("reader") as reader, reader.transaction():
                await reader.fetchval("select count(*) from memory_vectors_1")
                job_id = await rebuild(world)
                await until(lambda: world.waits_for_a_lock(), "the switch waits for the reader")
                await until(lambda: _is_searched(memories), "a query reads the old vectors meanwhile")
                assert await state(world, job_id) == "running"
            await until(lambda: is_done(world, job_id), "the rebuild is done")
            await until(lambda: _are(world, before), "the old table is dropped")
    assert await world.value(DISTINCT) == 40
    await sound(world)


async def _is_searched(memories: Memories) -> bool:
    return (await memories.query("memory", k=3)).diagnostics.channels["semantic"].status == "ok"


async def test_chunks_that_the_embedder_refuses_by_now_keep_their_vectors(world: World, vendor: StubVendor) -> None:
    async with world.operator():
        await filled(world, vendor, 20)
        vendor.fault = Fault(status=400, containing="memory number 7 ")
        async with world.worker():
            job_id = await rebuild(world)
            await until(lambda: is_done(world, job_id), "the rebuild is done")
    assert await world.value("select count(*) from memory_vectors_1") == 20
    assert await world.value("select count(*) from memory_embedding_quarantine") == 0
    await sound(world)
