"""What is missing is filled, what is there is replaced, and what it takes is told before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.api import Api, refused
from fixtures.engine import World
from fixtures.waiting import until
from vendor.script import Fault
from vendor.stub import StubVendor

REEMBED = "/v1/reembed"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def paid(vendor: StubVendor, model: str = "a", **embedding: Any) -> dict[str, Any]:
    """A Provider that is called over HTTP, at a price."""
    return {
        "type": "openai_compatible",
        "model": model,
        "baseURL": vendor.base_url,
        "pricing": {"inputCostPer1K": "0.02"},
        "embedding": {"dimensions": 64, **embedding},
    }


async def ended(api: Api, number: int) -> dict[str, Any]:
    """A job, once it is done."""

    async def done() -> dict[str, Any] | None:
        found: dict[str, Any] = (await api.get(f"/v1/jobs/{number}")).json()
        return found if found["state"] == "done" else None

    found: dict[str, Any] = await until(done, "the job is done")
    return found


async def lose(world: World, count: int) -> None:
    """Take the newest vectors away, as if nobody had made them."""
    await world.fetch(
        "with gone as (delete from memory_vectors_1 where chunk_id in"
        " (select chunk_id from memory_vectors_1 order by chunk_id desc limit $1) returning 1)"
        " insert into memory_embedding_counters select 1, 99, -count(*) from gone",
        count,
    )


async def test_a_reembed_fills_what_is_missing_and_nothing_else(world: World, api: Api, vendor: StubVendor) -> None:
    await world.stored(9)
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", paid(vendor)), "Ready")
        nothing = (await api.post(REEMBED)).json()
        assert [space["job"] for space in nothing["spaces"]] == [None]
        await lose(world, 2)
        vendor.forget()
        answer = (await api.post(REEMBED, {"provider": "default/memory"})).json()
        [space] = answer["spaces"]
        assert (space["embedding_version"], space["provider"], space["retried"]) == ("a-64-1", "default/memory", 0)
        assert (space["job"]["kind"], space["job"]["total"]) == ("reembed", 2)
        job = await ended(api, space["job"]["id"])
        assert (job["done"], job["requested_by"], len(vendor.inputs)) == (2, "local", 2)
        kinds = [row["kind"] for row in await world.fetch("select kind from memory_activity where actor = 'local'")]
        assert kinds == ["job_requested"]


async def test_replacing_makes_every_vector_anew_and_none_is_gone_before(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(9)
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", paid(vendor)), "Ready")
        vendor.forget()
        vendor.fault = Fault(hold=True)
        [space] = (await api.post(REEMBED, {"embedding_version": "a-64-1", "replace": True})).json()["spaces"]
        await until(lambda: vendor.in_flight, "a call is under way")
        status = (await api.get("/v1/embeddings/status")).json()
        assert (status["semantic_status"], status["active"]["vectors"]) == ("ok", 9)
        again = (await api.post(REEMBED, {"replace": True})).json()["spaces"]
        assert [each["job"]["id"] for each in again] == [space["job"]["id"]]
        vendor.fault = None
        job = await ended(api, space["job"]["id"])
        assert (job["replace"], job["done"], job["total"], job["quarantined"]) == (True, 9, 9, 0)
        assert len(set(vendor.inputs)) == 9


async def test_texts_that_are_equal_are_replaced_together_and_paid_once(
    world: World, api: Api, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", paid(vendor)), "Ready")
        for number in (1, 2, 3, 1, 2, 1):
            await api.post("/memory/add", {"text": f"said before {number}"})
        vendor.forget()
        [space] = (await api.post(REEMBED, {"replace": True})).json()["spaces"]
        job = await ended(api, space["job"]["id"])
        assert (job["done"], job["total"], len(vendor.inputs)) == (6, 6, 3)
        [found] = (await api.get("/v1/embeddings/spaces")).json()["spaces"]
        assert (found["vectors"], found["state"]) == (6, "ready")


async def test_refused_chunks_are_tried_again_on_request(world: World, api: Api, vendor: StubVendor) -> None:
    await world.stored(9)
    vendor.fault = Fault(containing="number 4 ", status=400)
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", paid(vendor)), "Ready")
        [space] = (await api.post(REEMBED, {"dry_run": True})).json()["spaces"]
        assert (space["retried"], space["estimate"]["to_embed"]) == (1, 1)
        vendor.fault = None
        [space] = (await api.post(REEMBED)).json()["spaces"]
        assert space["retried"] == 1
        await ended(api, space["job"]["id"])
        [found] = (await api.get("/v1/embeddings/spaces")).json()["spaces"]
        assert (found["quarantined"], found["vectors"], found["state"]) == (0, 9, "ready")


async def test_another_job_of_the_space_stands_in_the_way_and_is_named(world: World, api: Api) -> None:
    await world.stored(3)
    async with world.operator():
        world.cluster.apply("memory", {"type": "mock", "model": "a", "embedding": {"dimensions": 64}})
        [fill] = await until(lambda: _jobs(api), "a job is there")
        # The fill that runs makes what is missing: asking for that is no conflict.
        [space] = (await api.post(REEMBED)).json()["spaces"]
        assert space["job"]["id"] == fill["id"]
        problem = refused(await api.post(REEMBED, {"replace": True}), 409, "job_open")
        assert problem["jobs"] == [fill["id"]]
        await api.post(f"/v1/jobs/{fill['id']}/pause")
        problem = refused(await api.post(REEMBED), 409, "job_open")
        assert f"/v1/jobs/{fill['id']}/cancel" in problem["hint"]


async def _jobs(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/v1/jobs")).json()["jobs"]
    return found


async def test_a_project_is_filled_by_itself(world: World, api: Api, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", paid(vendor, createEnabled=False)), "Ready")
        for project in ("ours", "ours", "theirs"):
            await api.post("/memory/add", {"text": f"something in {project}", "project": project})
        refused(await api.post(REEMBED, {"project": "nobody's"}), 404, "not_found")
        [space] = (await api.post(REEMBED, {"project": "ours"})).json()["spaces"]
        job = await ended(api, space["job"]["id"])
        assert (job["project"], job["done"], job["copied"]) == ("ours", 2, 1)
        [found] = (await api.get("/v1/embeddings/spaces")).json()["spaces"]
        assert (found["vectors"], found["chunks"]) == (2, 3)


async def test_a_dry_run_tells_what_it_takes_and_writes_nothing(world: World, api: Api, vendor: StubVendor) -> None:
    async with world.operator():
        await world.until_phase(world.cluster.apply("memory", paid(vendor, createEnabled=False)), "Reembedding")
        for text in ("x" * 40, "x" * 40, "y" * 400, "zz"):
            await api.post("/memory/add", {"text": text})
        before = await _everything(world)
        for path in (REEMBED, "/v1/reindex"):
            answer = (await api.post(path, {"dry_run": True})).json()
            assert (answer["dry_run"], answer["reindex"]) == (True, None)
            [space] = answer["spaces"]
            assert space["job"] is None
            assert space["estimate"] == {
                "chunks": 4,
                "already_there": 0,
                "pending": 0,
                "copied": 1,
                "to_embed": 3,
                "estimated_tokens": 111,
                "estimated_cost": "0.00222",
                "currency": "USD",
                "estimated_seconds": None,
                "too_large": 0,
            }
        assert (answer["memories"], answer["outdated"]) == (4, 0)
        assert await _everything(world) == before


async def _everything(world: World) -> list[Any]:
    tables = ("memory_reembed_jobs", "memory_reembed_leases", "memory_activity", "memory_chunks", "memory_vectors_1")
    return [await world.value(f"select count(*) || max(xmin::text) from {table}") for table in tables]


async def test_without_a_space_there_is_nothing_to_fill(world: World, api: Api) -> None:
    await world.stored(1)
    refused(await api.post(REEMBED), 409, "no_embedder")
    refused(await api.post(REEMBED, {"embedding_version": "nope"}), 404, "not_found")
    refused(await api.post(REEMBED, {"provider": "default/nope"}), 404, "not_found")
    both = {"provider": "default/nope", "embedding_version": "nope"}
    refused(await api.post(REEMBED, both), 400)
