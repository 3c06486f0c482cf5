"""A model rehearsed on a sample over HTTP: priced, embedded step by step, compared, and gone afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.api import HOST, Api, refused, serve
from fixtures.comparisons import compared, texts
from fixtures.engine import World
from fixtures.waiting import ends, until
from memory_operator.http.auth.tokens import token_auth
from memory_operator.measuring.side_by_side import worse_than
from memory_operator.store.spaces import spaces
from vendor.script import Call, Fault
from vendor.stub import StubVendor

REHEARSALS = "/v1/embeddings/rehearsals"
PROVIDER = "default/memory"
MEMORIES = 80


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(models={"words": 128, "words-other": 96, "words-scrambled": 64}) as stub:
        yield stub


def provider(vendor: StubVendor, **embedding: Any) -> dict[str, Any]:
    return {
        "type": "openai_compatible",
        "model": "words",
        "baseURL": vendor.base_url,
        "pricing": {"inputCostPer1K": "0.02"},
        "embedding": {"dimensions": 128, "batchSize": 16, **embedding},
    }


@pytest.fixture
async def stocked(world: World, vendor: StubVendor) -> AsyncIterator[World]:
    """A world with a Provider, its operator, and memories that are embedded."""
    async with world.operator():
        async with world.worker(), serve(world) as api:
            await world.until_phase(world.cluster.apply("memory", provider(vendor)), "Ready")
            for start in range(0, MEMORIES, 8):
                stored = [api.post("/memory/add", {"text": text}) for text in texts(MEMORIES)[start : start + 8]]
                assert {answer.status_code for answer in await asyncio.gather(*stored)} == {201}
            await until(lambda: _covered(api), "the active space is full")
        vendor.forget()
        yield world


async def _covered(api: Api) -> bool:
    [space] = (await api.get("/v1/embeddings/spaces")).json()["spaces"]
    return bool(space["coverage"] == 1)


async def begun(api: Api, **more: Any) -> dict[str, Any]:
    answer = await api.post(REHEARSALS, {"provider": PROVIDER, "model": "words-scrambled", **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def filled(api: Api, rehearsal: dict[str, Any]) -> dict[str, Any]:
    while rehearsal["embedded"] + rehearsal["refused"] < rehearsal["chunks"]:
        answer = await api.post(f"{REHEARSALS}/{rehearsal['id']}/fill")
        assert answer.status_code == 200, answer.text
        rehearsal = answer.json()
    return rehearsal


async def left(world: World) -> tuple[int, int]:
    """Rehearsals, and chunks of them."""
    return (
        await world.value("select count(*) from memory_rehearsals"),
        await world.value("select count(*) from memory_rehearsal_chunks"),
    )


async def active(api: Api) -> str:
    [space] = (await api.get("/v1/embeddings/spaces")).json()["spaces"]
    return str(space["embedding_version"])


async def test_a_worse_model_is_found_out_on_a_sample_and_nothing_stays(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    before = (await api.get("/v1/embeddings/spaces")).json()
    plan = await begun(api, sample=60)
    assert (plan["chunks"], plan["projects"], plan["dry_run"]) == (60, 1, False)
    assert float(plan["estimated_cost"]) == pytest.approx(plan["estimated_tokens"] * 0.02 / 1000)
    rehearsal = await filled(api, plan["rehearsal"])
    assert (rehearsal["embedded"], rehearsal["refused"], rehearsal["dimensions"]) == (60, 0, 64)
    assert {call.model for call in vendor.calls} == {"words-scrambled"}
    assert (await api.get(REHEARSALS)).json()["rehearsals"] == [rehearsal]
    assert (await api.get("/v1/embeddings/spaces")).json() == {**before, "temporary": [rehearsal]}
    draw, summary = await compared(api, plan["compared_with"], rehearsal["name"], 50)
    assert draw["in_common"]["both"] == 60
    assert draw["second"]["state"] == "rehearsal"
    assert summary.judged is not None
    assert worse_than(summary.judged, 0.01)
    assert summary.judged.predicted is not None
    assert summary.judged.whole is not None
    assert summary.judged.predicted.mean <= summary.judged.whole.mean
    assert (await api.delete(f"{REHEARSALS}/{rehearsal['id']}")).status_code == 204
    assert await left(stocked) == (0, 0)
    assert (await api.get("/v1/embeddings/spaces")).json() == before
    purposes = await stocked.fetch("select distinct purpose from memory_usage_ledger where model = 'words-scrambled'")
    assert sorted(row["purpose"] for row in purposes) == ["compare", "rehearse"]


async def test_a_dry_run_says_the_same_figures_calls_nobody_and_writes_nothing(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    history = (await api.get("/activity")).json()
    dry = await begun(api, sample=60, dry_run=True)
    assert dry["rehearsal"] is None
    assert vendor.count == 0
    assert await left(stocked) == (0, 0)
    assert (await api.get("/activity")).json() == history
    run = await begun(api, sample=60)
    figures = ("compared_with", "chunks", "projects", "estimated_tokens", "estimated_cost", "estimated_seconds")
    assert {name: run[name] for name in figures} == {name: dry[name] for name in figures}
    rehearsal = await filled(api, run["rehearsal"])
    assert sum(len(call.inputs) for call in vendor.calls) == rehearsal["embedded"] == dry["chunks"]


async def test_what_a_killed_command_leaves_is_dropped_by_a_worker(stocked: World, api: Api) -> None:
    plan = await begun(api, sample=30)
    await filled(api, plan["rehearsal"])
    assert await left(stocked) == (1, 30)
    await stocked.fetch("update memory_rehearsals set expires_at = now()")
    assert (await api.get(REHEARSALS)).json()["rehearsals"] == []
    refused(await api.post(f"{REHEARSALS}/{plan['rehearsal']['id']}/fill"), 404)
    name = plan["rehearsal"]["name"]
    refused(await api.post("/v1/embeddings/compare", {"first": plan["compared_with"], "second": name}), 404)
    async with stocked.worker():
        await until(lambda: _nothing_left(stocked), "nothing is left")


async def _nothing_left(world: World) -> bool:
    return await left(world) == (0, 0)


async def test_nobody_fills_a_rehearsal_beyond_its_sample_nor_reads_it(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    plan = await begun(api, sample=30)
    await filled(api, plan["rehearsal"])
    async with stocked.worker():
        added = await api.post("/memory/add", {"text": "one more memory of words"})
        assert added.json()["embedding_status"] == "embedded"
    assert await left(stocked) == (1, 30)
    assert {call.model for call in vendor.calls if "one more memory of words" in call.inputs} == {"words"}
    name = plan["rehearsal"]["name"]
    refused(await api.post("/v1/embeddings/activate", {"embedding_version": name}), 404)
    refused(await api.post("/memory/query", {"query": "words", "embedding_version": name}), 404)
    async with stocked.store.connection() as conn:
        assert [space.config.model for space in await spaces.all_spaces(conn)] == ["words"]


async def test_a_purged_memory_leaves_rehearsals_too(stocked: World, api: Api) -> None:
    plan = await begun(api, sample=MEMORIES)
    await filled(api, plan["rehearsal"])
    memory = (await api.post("/memory/query", {"query": texts(1)[0]})).json()["results"][0]["id"]
    assert (await api.delete(f"/memory/{memory}", params={"purge": "true"})).status_code == 200
    assert await left(stocked) == (1, MEMORIES - 1)


async def test_a_model_that_is_not_there_and_a_text_that_is_refused_are_told(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    plan = await begun(api, model="none", sample=10)
    refused(await api.post(f"{REHEARSALS}/{plan['rehearsal']['id']}/fill"), 409, "embedder_unavailable")
    vendor.fault = Fault(status=400, containing=texts(1)[0])
    plan = await begun(api, sample=MEMORIES)
    rehearsal = await filled(api, plan["rehearsal"])
    assert (rehearsal["embedded"], rehearsal["refused"]) == (MEMORIES - 1, 1)
    for _ in range(2):
        await begun(api, sample=10)
    refused(await api.post(REHEARSALS, {"provider": PROVIDER, "model": "words"}), 409, "too_many_rehearsals")
    refused(await api.post(REHEARSALS, {"provider": "default/none", "model": "words"}), 404)


async def test_a_rehearsal_keeps_to_the_limits_and_the_budget_of_its_provider(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    async def applied(name: str, value: int) -> bool:
        config = await stocked.value("select config from memory_embedding_spaces")
        return bool({**config["limits"], **config["budget"]}[name] == value)

    def sent() -> list[Call]:
        return [call for call in vendor.calls if call.model == "words-scrambled"]

    stocked.cluster.apply("memory", provider(vendor, limits={"requestsPerMinute": 120}))
    await until(lambda: applied("requests_per_minute", 120), "the limit is applied")
    plan = await begun(api, sample=MEMORIES)
    rehearsal = await filled(api, plan["rehearsal"])
    assert rehearsal["embedded"] == sum(len(call.inputs) for call in sent()) == MEMORIES
    stocked.cluster.apply("memory", provider(vendor, budget={"tokensPerDay": 1}))
    await until(lambda: applied("tokens_per_day", 1), "the budget is applied")
    plan = await begun(api, sample=10)
    refused(await api.post(f"{REHEARSALS}/{plan['rehearsal']['id']}/fill"), 409, "budget_reached")
    assert sum(len(call.inputs) for call in sent()) == MEMORIES


async def test_whoever_may_not_begin_jobs_rehearses_nothing_and_strangers_see_none(
    stocked: World, tmp_path: Path
) -> None:
    def entry(name: str, tenant: str, *rights: str) -> dict[str, Any]:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return {"name": name, "sha256": digest, "tenant": tenant, "rights": rights}

    tokens = tmp_path / "tokens.json"
    all_rights = ("read", "jobs", "memories:get")
    people = [
        entry("owner", "default", *all_rights),
        entry("reader", "default", "read", "memories:get"),
        entry("stranger", "other", *all_rights),
    ]
    tokens.write_text(json.dumps(people))
    async with serve(stocked, token_auth(tokens)) as api:

        def by(name: str) -> dict[str, Any]:
            return {"headers": {"authorization": f"Bearer {name}"}}

        body = {"provider": PROVIDER, "model": "words-other", "sample": 10}
        refused(await api.post(REHEARSALS, body, **by("reader")), 403)
        made = (await api.post(REHEARSALS, body, **by("owner"))).json()["rehearsal"]
        assert (await api.get(REHEARSALS, **by("reader"))).json()["rehearsals"] == [made]
        assert (await api.get(REHEARSALS, **by("stranger"))).json()["rehearsals"] == []
        refused(await api.post(f"{REHEARSALS}/{made['id']}/fill", **by("reader")), 403)
        refused(await api.delete(f"{REHEARSALS}/{made['id']}", **by("stranger")), 404)
        assert (await api.delete(f"{REHEARSALS}/{made['id']}", **by("owner"))).status_code == 204


COMMAND = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background is started without one
from memory_operator.client.main import main

main()
"""


def memory(api: Api, *arguments: str) -> Any:
    """`memory embeddings ARGUMENTS… --json`, begun."""
    return asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        COMMAND,
        *("embeddings", *arguments, "--json"),
        env={**os.environ, "MEMORY_API": f"http://{HOST}:{api.port}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_rehearses_compares_and_leaves_nothing(stocked: World, api: Api) -> None:
    wanted = ("rehearse", "memory", "--model", "words-scrambled", "--sample", "60", "--questions", "50")
    command = await memory(api, *wanted, "--gate", "0.01")
    _, errors = await ends(command.communicate(), "the refusal")
    assert command.returncode == 2, errors.decode()
    assert await stocked.value("select count(*) from memory_activity where kind = 'rehearse'") == 0
    command = await memory(api, *wanted, "--gate", "0.01", "--yes")
    shown, errors = await ends(command.communicate(), "the end of the rehearsal")
    assert command.returncode == 9, errors.decode()
    found = json.loads(shown)
    assert (found["first"]["name"], found["second"]["state"]) == (await active(api), "rehearsal")
    assert (found["questions"], found["in_common"]["both"]) == (50, 60)
    vectors = found["judged"]["ways"]["semantic"]["nDCG@10"]
    assert vectors["verdict"] == "worse"
    assert vectors["difference"]["low"] <= vectors["difference"]["mean"] <= vectors["difference"]["high"] < 0
    assert found["judged"]["predicted_nDCG@10"]["mean"] <= found["judged"]["whole_nDCG@10"]["mean"]
    assert float(found["first"]["cost_per_1000_queries"]) > 0
    assert found["gate"]["reasons"]
    assert await left(stocked) == (0, 0)


async def _begun(world: World) -> bool:
    return bool(await world.value("select count(*) > 0 from memory_rehearsal_chunks where embedding is not null"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_a_command_that_is_ended_leaves_nothing(
    stocked: World, api: Api, vendor: StubVendor, number: signal.Signals
) -> None:
    vendor.fault = Fault(containing=texts(MEMORIES)[-1], hold=True)
    command = await memory(api, "rehearse", PROVIDER, "--model", "words-other", "--sample", str(MEMORIES), "--yes")
    await until(lambda: _begun(stocked), "some of the sample is embedded")
    command.send_signal(number)
    vendor.fault = None
    await ends(command.communicate(), "the end of the command")
    assert command.returncode != 0
    if number == signal.SIGKILL:
        assert (await left(stocked))[0] == 1
        await stocked.fetch("update memory_rehearsals set expires_at = now()")
    async with stocked.worker():
        await until(lambda: _nothing_left(stocked), "nothing is left")
