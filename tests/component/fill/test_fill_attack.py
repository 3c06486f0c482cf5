"""Corners of a fill where a row, a lease, a coin or a turn of the loop could get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from fixtures.engine import World
from fixtures.fills import begun, complete, provider, sent, sound
from fixtures.waiting import until
from memory_operator.engine.fill.inflight import InFlight
from memory_operator.engine.fill.reader import Reader
from memory_operator.engine.fill.writer import CallResult, commit
from memory_operator.store.db import locks
from memory_operator.store.jobs import jobs, leases
from memory_operator.store.jobs.parts import Part
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.usage import ledger
from memory_operator.store.usage.ledger import Intent, Outcome, Share
from vendor.script import Fault
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def filled(world: World, vendor: StubVendor) -> None:
    """Have a Provider filled, by a worker that has stopped after it."""
    async with world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")


async def test_a_worker_that_has_nothing_to_claim_waits_in_peace(world: World, vendor: StubVendor) -> None:
    """The last range is another worker's, or the index is being built: the job runs, and there is nothing to do."""
    await world.stored(10)
    other = 4711
    sessions = "select sessions from pg_stat_database where datname = current_database()"
    async with world.operator(), locks.presence(world.store, other):
        await begun(world, vendor)
        await world.fetch(
            "update memory_reembed_leases set state = 'leased', token = gen_random_uuid(), presence = $1,"
            " expires_at = now() + interval '1 hour'",
            other,
        )
        async with world.worker():
            await asyncio.sleep(1)
            before = await world.value(sessions)
            await asyncio.sleep(4)
            assert await world.value(sessions) - before < 20
        await world.fetch("update memory_reembed_leases set state = 'open', token = null, expires_at = null")
        async with world.worker():
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)


@pytest.mark.parametrize("limits", [{"requestsPerMinute": 60}, {"concurrency": 1}])
@pytest.mark.parametrize("fault", [Fault(status=400, containing="poison"), Fault(value="nan", containing="poison")])
async def test_a_refused_text_is_found_where_few_calls_are_allowed(
    world: World, vendor: StubVendor, limits: dict[str, int], fault: Fault
) -> None:
    """The probe that says who is to blame waits for its turn; it does not send the batch round once more."""
    await world.stored_texts(["a poison text"])
    vendor.fault = fault
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor, limits=limits))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert sent(vendor).count("a poison text") <= 3


async def test_a_pending_chunk_that_has_its_vector_already_is_not_paid_again(world: World, vendor: StubVendor) -> None:
    await world.stored(5)
    async with world.operator():
        await filled(world, vendor)
        vendor.forget()
        await world.fetch("insert into memory_embedding_pending (space_id, chunk_id) select 1, id from memory_chunks")
        async with world.worker():
            await until(
                lambda: world.value("select count(*) = 0 from memory_embedding_pending"), "nothing is pending any more"
            )
    await sound(world)
    assert sent(vendor) == []


async def test_a_chunk_that_cannot_be_decrypted_does_not_take_others_with_the_same_text_along(
    world: World, vendor: StubVendor
) -> None:
    await world.stored_texts(["twice", "once", "twice", "lonely"])
    await world.fetch("update memory_chunks set text = text || '\\x00'::bytea where id = 1 or id = 4")
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert sorted(sent(vendor)) == ["once", "twice"]
    rows = await world.fetch("select chunk_id from memory_embedding_quarantine")
    assert [row["chunk_id"] for row in rows] == [4]


async def test_a_refusal_does_not_put_those_in_quarantine_that_have_a_vector(world: World, vendor: StubVendor) -> None:
    await world.stored_texts(["poison", "good"])
    async with world.operator():
        await filled(world, vendor)
        await world.stored_texts(["poison"])
        await world.fetch("delete from memory_vectors_1 where chunk_id = 1")
        await world.fetch("insert into memory_vectors_1 select 3, project_id, embedding from memory_vectors_1 limit 1")
        vendor.fault = Fault(status=400, containing="poison")
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await jobs.start(conn, 1, kind="reembed", replace=True)
        async with world.worker():
            await until(
                lambda: world.value("select count(*) = 2 from memory_reembed_jobs where state = 'done'"),
                "the second job is done",
            )
    both = "select count(*) from memory_embedding_quarantine join memory_vectors_1 using (chunk_id)"
    assert await world.value(both) == 0
    await sound(world)


async def test_a_job_of_one_project_gives_a_copied_vector_to_all_that_have_the_text(
    world: World, vendor: StubVendor
) -> None:
    await world.stored_texts(["same", "other"])
    async with world.operator():
        await filled(world, vendor)
        vendor.forget()
        await world.stored_texts(["same", "same"])
        # The last one has it, as an add made it; the first two lack it.
        await world.fetch("update memory_vectors_1 set chunk_id = 4 where chunk_id = 1")
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await jobs.start(conn, 1, kind="reembed", part=Part(1, 2))
        async with world.worker():
            await until(
                lambda: world.value("select count(*) = 2 from memory_reembed_jobs where state = 'done'"),
                "the second job is done",
            )
    assert await world.value("select count(*) from memory_vectors_1") == 4
    assert sent(vendor) == []
    row = (await world.fetch("select total, done, copied from memory_reembed_jobs where id = 2"))[0]
    assert tuple(row) == (2, 2, 2)


async def test_a_job_of_one_project_comes_back_for_what_lost_the_one_that_stood_for_it(
    world: World, vendor: StubVendor
) -> None:
    """The first chunk of a text was forgotten after the others were left out for its sake."""
    await world.stored_texts(["other", "same", "same"])
    async with world.operator():
        await filled(world, vendor)
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await conn.execute("delete from memory_vectors_1 where chunk_id > 1")
            await registry.count(conn, {1: -2})
            await jobs.start(conn, 1, kind="reembed", part=Part(1, 2))
            await conn.execute("delete from memory_reembed_leases")  # walked, with 3 left out for 2
            await conn.execute("update memory_chunks set live = false where id = 2")
            await registry.count(conn, {registry.CHUNKS: -1})
        async with world.worker():
            await until(
                lambda: world.value("select count(*) = 2 from memory_reembed_jobs where state = 'done'"),
                "the second job is done",
            )
    await sound(world)


async def test_a_text_whose_vector_no_half_number_can_hold_costs_that_text_only(
    world: World, vendor: StubVendor
) -> None:
    await world.stored_texts(["fine", "enormous"])
    vendor.fault = Fault(value="huge", containing="enormous")
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor, columnType="halfvec"))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await world.value("select count(*) from memory_embedding_quarantine") == 1
    assert len(sent(vendor)) < 20


async def test_a_server_that_takes_no_vectors_is_paid_for_once(world: World, vendor: StubVendor) -> None:
    """Whatever it says: the fill holds what is paid, and goes on once the server lets it."""
    await world.stored(40)
    async with world.operator():
        await begun(world, vendor)
        await world.fetch(
            "create function odd() returns trigger language plpgsql as $$ begin raise exception 'odd'; end $$;"
        )
        await world.fetch("create trigger odd before insert on memory_vectors_1 execute function odd()")
        async with world.worker():
            await until(lambda: len(sent(vendor)) >= 8, "the first batch is sent")
            await asyncio.sleep(3)
            await world.fetch("drop trigger odd on memory_vectors_1")
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert len(sent(vendor)) == 40


async def test_a_space_whose_end_waits_for_a_lock_holds_no_other_up(world: World, vendor: StubVendor) -> None:
    await world.stored(1_000)
    async with world.operator():
        await begun(world, vendor, batchSize=500)
        async with locks.index_lock(world.store, 1), world.worker():
            await until(lambda: world.value("select count(*) = 0 from memory_reembed_leases"), "no range is left")
            world.cluster.apply("second", provider(vendor, "b", batchSize=500))
            await until(
                lambda: world.value("select state = 'ready' from memory_embedding_spaces where id = 2"),
                "space 2 is ready",
            )


async def test_a_call_that_nobody_can_end_any_more_does_not_take_a_place_for_long(
    world: World, vendor: StubVendor
) -> None:
    """Its row was written as the server went away, and its worker lives."""
    await world.stored(10)
    async with world.operator():
        world.cluster.apply(
            "memory", {**provider(vendor, limits={"concurrency": 1}), "defaults": {"requestTimeout": "1s"}}
        )
        await until(lambda: world.value("select count(*) > 0 from memory_reembed_jobs"), "a job is there")
        async with world.worker() as worker, locks.presence(world.store, 4711):
            del worker
            await until(lambda: complete(world), "the fill is complete")
            await world.stored(10)
            await world.fetch(
                "insert into memory_usage_ledger (call_id, at, purpose, provider_namespace, provider_name, model,"
                " presence, inputs, estimated_tokens)"
                " values ($1, now() - interval '2 minutes', 'fill', 'default', 'memory', 'a', 4711, 1, 1)",
                uuid4(),
            )
            await world.store_pending(1)
            await until(lambda: complete(world), "the fill is complete")
            await until(lambda: world.value("select count(*) = 20 from memory_vectors_1"), "both halves are there")


async def test_a_trouble_is_over_when_what_waited_for_it_is_gone(world: World, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        vendor.stop()
        await world.stored(1)
        await world.store_pending(1)
        await until(
            lambda: world.cluster.condition(ref, "Reachable").status == "False", "the vendor is told as unreachable", 30
        )
        async with world.store.transaction() as conn:
            await conn.execute("delete from memory_embedding_pending")
            await conn.execute("update memory_chunks set live = false")
            await registry.count(conn, {registry.CHUNKS: -1})
        vendor.start()
        await world.until_phase(ref, "Ready")


async def test_a_trouble_that_a_worker_left_behind_is_over_when_nothing_waits_for_the_vendor(
    world: World, vendor: StubVendor
) -> None:
    async with world.operator():
        async with world.worker():
            ref = world.cluster.apply("memory", provider(vendor))
            await world.until_phase(ref, "Ready")
            vendor.stop()
            await world.stored(1)
            await world.store_pending(1)
            await until(lambda: world.cluster.condition(ref, "Reachable").status == "False", "the vendor is told of")
        await world.fetch("delete from memory_embedding_pending")
        await until(lambda: world.cluster.condition(ref, "Reachable").status == "True", "no trouble is told any more")


async def test_a_commit_whose_acknowledgement_was_lost_is_counted_once(world: World, vendor: StubVendor) -> None:
    await world.stored(1)
    async with world.operator():
        await begun(world, vendor)
    async with world.store.connection() as conn:
        space, job = await spaces.get(conn, 1), await jobs.get(conn, 1)
        assert space is not None
        assert job is not None
        entry = await ledger.intend(conn, Intent.of(space, "fill", [Share(1, 1, 10)], job.id))
        assert entry is not None
        answer = CallResult(outcomes=[Outcome(entry, "answered", 12)], job=job)
        for _ in range(2):
            await commit(conn, space, [answer], job)
        found = await jobs.get(conn, 1)
        assert found is not None
        assert (found.calls, found.tokens, found.spent_tokens) == (1, 12, 12)


async def test_a_range_that_is_lost_while_it_is_read_ends_no_call_that_is_under_way(
    world: World, vendor: StubVendor
) -> None:
    """Its vectors are copied behind the fence; that another worker has it by now is no reason to begin anew."""
    await world.stored_texts(["same", "other"])
    async with world.operator():
        await filled(world, vendor)
        await world.stored_texts(["same"])
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await jobs.start(conn, 1, kind="reembed")
        async with world.store.connection() as conn:
            space, job, backend = await spaces.get(conn, 1), await jobs.get(conn, 2), await leases.backend_of(conn)
        assert space is not None
        assert job is not None
        in_flight = InFlight()
        reader = Reader(world.store, world.keys, in_flight, "test", 4711)
        async with world.store.connection() as blocker:
            async with blocker.transaction():
                await blocker.execute("select 1 from memory_chunks where id = 3 for update")
                reading = asyncio.create_task(reader.read_range(space, job, backend))
                await until(
                    lambda: world.value("select count(*) > 0 from pg_locks where not granted"),
                    "somebody waits for a lock",
                )
                await world.fetch("update memory_reembed_leases set token = gen_random_uuid()")
            assert await reading
        assert not in_flight.leases
        assert in_flight.empty
