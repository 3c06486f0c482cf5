"""A sweep in parts: so many chunks, with pauses, what it skips, what stands in its way, and a kill in its middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.proc import OwnProcess
from fixtures.api import Api, refused
from fixtures.engine import World
from fixtures.fills import provider, sent, sound
from fixtures.waiting import until
from vendor.script import Fault
from vendor.stub import StubVendor

REEMBED = "/v1/reembed"
SPACES = "/v1/embeddings/spaces"
TOO_LARGE = "x" * 65_537


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def begun(api: Api, **request: Any) -> dict[str, Any]:
    """The job that a request begins for the one space that there is."""
    [space] = (await api.post(REEMBED, request)).json()["spaces"]
    job: dict[str, Any] = space["job"]
    return job


async def ended(api: Api, number: int) -> dict[str, Any]:
    async def done() -> dict[str, Any] | None:
        found: dict[str, Any] = (await api.get(f"/v1/jobs/{number}")).json()
        return found if found["state"] == "done" else None

    found: dict[str, Any] = await until(done, "the job is done")
    return found


async def filled(world: World, vendor: StubVendor, **embedding: Any) -> None:
    """Have a Provider filled by a worker, which has stopped by then; what it sent is forgotten."""
    async with world.worker():
        await world.until_phase(world.cluster.apply("memory", provider(vendor, **embedding)), "Ready")
    vendor.forget()


async def lose_all(world: World) -> None:
    """Take all vectors away, as if nobody had made them."""
    await world.fetch(
        "with gone as (delete from memory_vectors_1 returning 1)"
        " insert into memory_embedding_counters select 1, 99, -count(*) from gone"
    )


async def test_so_many_rows_are_done_the_oldest_first_and_asked_again_the_next_ones(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(10)
    async with world.operator():
        await filled(world, vendor)
        await lose_all(world)
        async with world.worker():
            for there, total in ((4, 4), (8, 4), (10, 2)):
                job = await begun(api, max_rows=4)
                assert (job["max_rows"], job["total"]) == (4, total)
                await ended(api, job["id"])
                numbers = await world.fetch("select chunk_id from memory_vectors_1 order by chunk_id")
                assert [row["chunk_id"] for row in numbers] == list(range(1, there + 1))
            assert await begun(api, max_rows=4) is None
    assert len(set(sent(vendor))) == len(sent(vendor)) == 10
    await sound(world)


async def test_a_job_of_so_many_rows_stands_in_the_way_of_more_and_not_of_the_same(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(3)
    async with world.operator():
        await filled(world, vendor)
        await lose_all(world)
        job = await begun(api, max_rows=2)
        assert (await begun(api, max_rows=2))["id"] == job["id"]
        for request in ({}, {"max_rows": 3}, {"max_rows": 2, "replace": True}):
            for dry_run in (True, False):
                problem = refused(await api.post(REEMBED, {**request, "dry_run": dry_run}), 409, "job_open")
                assert problem["jobs"] == [job["id"]]


async def test_a_pause_is_between_all_calls_of_a_job_and_what_is_pending_does_not_wait_for_it(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(5)
    async with world.operator():
        await filled(world, vendor, batchSize=1)
        await lose_all(world)
        job = await begun(api, sleep_ms=60_000)
        await world.fetch("update memory_reembed_jobs set sleep_ms = 36000000 where state = 'running'")
        async with world.worker():
            done = "select done = 1 from memory_reembed_jobs where id = $1"
            await until(lambda: world.value(done, job["id"]), "the first chunk is done")
            await world.stored_texts(["something new"])
            newest = "select max(id) from memory_chunks"
            await world.fetch(f"insert into memory_embedding_pending (space_id, chunk_id) select 1, ({newest})")
            await world.fetch("select pg_notify('memory_work', '')")
            has_vector = f"select exists (select from memory_vectors_1 where chunk_id = ({newest}))"
            await until(lambda: world.value(has_vector), "what was pending has its vector")
            found = (await api.get(f"/v1/jobs/{job['id']}")).json()
            assert (job["sleep_ms"], found["state"], found["done"]) == (60_000, "running", 1)
        assert len(sent(vendor)) == 2
        await api.post(f"/v1/jobs/{job['id']}/cancel")
        vendor.forget()
        async with world.worker():
            await ended(api, (await begun(api, sleep_ms=1))["id"])
        assert (len(sent(vendor)), vendor.peak_in_flight) == (4, 1)
    await sound(world)


async def test_what_is_skipped_is_named_with_its_reason_and_keeps_the_vector_that_it_has(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored_texts(["one", "two", "three"])
    async with world.operator():
        await filled(world, vendor)
        kept = await world.value("select embedding::text from memory_vectors_1 where chunk_id = 2")
        await world.stored_texts([TOO_LARGE])
        vendor.fault = Fault(containing="two", status=400)
        async with world.worker():
            job = await ended(api, (await begun(api, replace=True, max_rows=50))["id"])
        assert (job["done"], job["quarantined"], job["total"]) == (2, 2, 4)
        page = (await api.get(f"/v1/jobs/{job['id']}/skipped", params={"limit": 1})).json()
        rest = (await api.get(f"/v1/jobs/{job['id']}/skipped", params={"after": page["next_after"]})).json()
        [two], [large] = page["skipped"], rest["skipped"]
        assert (two["id"], two["quarantined"], two["project"], two["chunk"]) == ("2.1", False, "default", 0)
        assert (large["id"], large["quarantined"], rest["next_after"]) == ("4.1", True, None)
        assert "65536 bytes" in large["reason"]
        assert "400" in two["reason"] or "refus" in two["reason"]
        assert await world.value("select embedding::text from memory_vectors_1 where chunk_id = 2") == kept
        refused(await api.get("/v1/jobs/99/skipped"), 404, "not_found")


async def test_a_batch_that_is_refused_costs_no_other_row_its_vector(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(20)
    async with world.operator():
        await filled(world, vendor, batchSize=8)
        vendor.fault = Fault(containing="number 7 ", status=400)
        async with world.worker():
            job = await ended(api, (await begun(api, replace=True, max_rows=20))["id"])
        assert (job["done"], job["quarantined"]) == (19, 1)
    await sound(world)


async def test_a_sweep_that_is_killed_is_taken_up_again_and_nobody_asks_for_it(
    world: World, api: Api, vendor: StubVendor, tmp_path: Path
) -> None:
    await world.stored(60)
    async with world.operator():
        await filled(world, vendor, batchSize=5)
        await lose_all(world)
        vendor.fault = Fault(hold=True, containing="number 40 ")
        job = await begun(api, max_rows=50)
        with OwnProcess(tmp_path, world.dsn, "worker") as killed:
            await until(lambda: world.value("select count(*) > 0 from memory_vectors_1"), "some are done")
            await until(lambda: vendor.in_flight, "a call is under way")
            killed.kill()
        there = await world.value("select count(*) from memory_vectors_1")
        before = len(sent(vendor))
        vendor.fault = None
        async with world.worker():
            found = await ended(api, job["id"])
        assert (found["done"], found["total"], found["quarantined"]) == (50, 50, 0)
        assert len(sent(vendor)) - before <= 50 - there
        assert await world.value("select count(*) from memory_vectors_1") == 50


async def test_a_dry_run_tells_what_there_is_and_where_texts_go(world: World, api: Api, vendor: StubVendor) -> None:
    async with world.operator():
        async with world.worker():
            await world.until_phase(world.cluster.apply("memory", provider(vendor)), "Ready")
            await api.post("/memory/add", {"text": "said once", "project": "ours"})
        answer = (await api.post(REEMBED, {"dry_run": True, "project": "ours"})).json()
        assert answer["stored"] == {"chunks": 1, "memories": 1, "dimensions": [64]}
        [space] = answer["spaces"]
        assert (space["model"], space["dimensions"], space["remote"], space["last_error"]) == ("a", 64, True, None)
        refused(await api.post(REEMBED, {"dry_run": True, "project": "nobody's"}), 404, "not_found")
        for wrong in ({"max_rows": 0}, {"max_rows": -1}, {"sleep_ms": -1}, {"sleep_ms": 60_001}, {"max_rows": True}):
            refused(await api.post(REEMBED, wrong), 400)


async def test_a_text_that_is_pending_is_not_counted_as_one_to_embed_and_is_paid_once(
    world: World, api: Api, vendor: StubVendor
) -> None:
    async with world.operator():
        await filled(world, vendor)
        for _ in range(2):
            await world.stored_texts(["said twice", "said by two"])
        await world.fetch("insert into memory_embedding_pending (space_id, chunk_id) values (1, 1)")
        [space] = (await api.post(REEMBED, {"dry_run": True})).json()["spaces"]
        estimate = space["estimate"]
        assert (estimate["pending"], estimate["to_embed"], estimate["copied"]) == (1, 1, 2)
        async with world.worker():
            await ended(api, (await begun(api))["id"])
        assert sorted(sent(vendor)) == ["said by two", "said twice"]
    await sound(world)
