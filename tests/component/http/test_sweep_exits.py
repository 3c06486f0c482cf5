"""The exit codes of a sweep, each of them told apart, by the command line, an API, a worker and a vendor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from fixtures.api import Api
from fixtures.commands import memory
from fixtures.engine import World
from fixtures.fills import provider, sent
from fixtures.waiting import until
from vendor.script import Fault
from vendor.stub import StubVendor

WAITING = ("embeddings", "reembed", "--wait", "--json")


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def test_without_an_embedder_a_sweep_ends_with_4(world: World, api: Api) -> None:
    for command in (WAITING, (*WAITING, "--dry-run"), ("embeddings", "rebuild", "--yes", "--json")):
        ran = await memory(api, *command)
        assert (ran.code, json.loads(ran.err)["code"]) == (4, "no_embedder")


@pytest.mark.parametrize("fault", [Fault(status=401), Fault(length=1), None], ids=["key", "dimension", "address"])
async def test_with_an_embedder_that_cannot_be_set_up_a_sweep_ends_with_3_and_says_why(
    world: World, api: Api, vendor: StubVendor, fault: Fault | None
) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", provider(vendor)), "Ready")
        await world.stored(3)
        if fault is None:
            vendor.stop()
        else:
            vendor.fault = fault
        assert (await memory(api, "embeddings", "reembed")).code == 0
        told = "select count(*) > 0 from memory_embedding_spaces where trouble is not null"
        await until(lambda: world.value(told), "the worker has told what is wrong")
        ran = await memory(api, *WAITING[:-1], "--timeout", "2s")
        assert ran.code == 3, ran
        assert "! the embedder gives no vectors: " in ran.err
        assert "! its embedder gives no vectors now: " in ran.err
        if fault is None:
            vendor.start()
        vendor.fault = None
        ran = await memory(api, *WAITING)
        assert ran.code == 0, ran


async def test_a_sweep_ends_with_0_5_or_6_as_all_some_or_none_of_the_rows_were_done(
    world: World, api: Api, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", provider(vendor)), "Ready")
        for refused, code in ((None, 0), ("number 2 ", 5), ("number", 6)):
            await world.stored(3)
            vendor.fault = Fault(containing=refused, status=400) if refused else None
            ran = await memory(api, *WAITING)
            assert ran.code == code, ran
            [job] = json.loads(ran.out)["jobs"]
            assert (job["done"], job["quarantined"]) == {0: (3, 0), 5: (2, 1), 6: (0, 4)}[code]
        ran = await memory(api, "embeddings", "reembed", "--wait")
        assert ran.code == 6
        assert ran.err.count("is skipped, has no vector: ") == 4
        vendor.fault = None
        ran = await memory(api, "embeddings", "quarantine", "--retry")
        assert (ran.code, ran.out) == (0, "4 refused chunks are tried once more\n")
        await until(lambda: world.value("select count(*) = 9 from memory_vectors_1"), "all of them have a vector")


async def test_a_sweep_that_was_interrupted_is_waited_for_by_the_same_command(
    world: World, api: Api, vendor: StubVendor
) -> None:
    async with world.operator():
        async with world.worker():
            await world.until_phase(world.cluster.apply("memory", provider(vendor)), "Ready")
        vendor.forget()
        await world.stored(5)
        first = await memory(api, "embeddings", "reembed", "--max-rows", "4", "--json")
        assert first.code == 0
        again = asyncio.create_task(
            memory(api, *WAITING, "--max-rows", "4", "--skip-current-space", "--sleep-ms", "1"), name="again"
        )
        twice = "select count(*) = 2 from memory_activity where kind = 'job_requested'"
        await until(lambda: world.value(twice), "the job is asked for once more")
        async with world.worker():
            ran = await again
        assert ran.code == 0, ran
        [job], [begun] = json.loads(ran.out)["jobs"], json.loads(first.out)["spaces"]
        assert (job["id"], job["done"], len(sent(vendor))) == (begun["job"]["id"], 4, 4)


async def test_a_budget_that_is_used_up_and_a_wrong_option_are_told_apart_from_these(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(3)
    async with world.operator(), world.worker():
        spec = provider(vendor, budget={"tokensPerJob": 20})
        world.cluster.apply("memory", spec)
        await until(lambda: world.value("select count(*) > 0 from memory_reembed_jobs"), "a job is there")
        paused = "select count(*) > 0 from memory_reembed_jobs where paused_for = 'budget'"
        await until(lambda: world.value(paused), "the job waits for its budget")
        assert (await memory(api, "embeddings", "resume", "1")).code == 8
        assert (await memory(api, *WAITING, "--max-rows", "-1")).code == 2
        assert (await memory(api, *WAITING, "--project", "nobody's")).code == 1
