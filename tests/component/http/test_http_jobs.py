"""Jobs over HTTP: listed, paused, resumed, cancelled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.http.auth.tokens import token_auth
from vendor.stub import StubVendor

JOBS = "/v1/jobs"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def paid(vendor: StubVendor, **embedding: Any) -> dict[str, Any]:
    """A Provider that is called over HTTP, at a price."""
    return {
        "type": "openai_compatible",
        "model": "a",
        "baseURL": vendor.base_url,
        "pricing": {"inputCostPer1K": "0.02"},
        "embedding": {"dimensions": 64, **embedding},
    }


def mock(model: str = "a", **embedding: Any) -> dict[str, Any]:
    return {"type": "mock", "model": model, "embedding": {"dimensions": 64, **embedding}}


async def opened(world: World, api: Api, **spec: Any) -> int:
    """The job of a first Provider, which nobody works on as no worker runs."""
    world.cluster.apply("memory", {**mock(), **spec})
    [job] = await until(lambda: _jobs(api), "a job is there")
    return int(job["id"])


async def _jobs(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get(JOBS)).json()["jobs"]
    return found


async def told(world: World) -> list[tuple[str, str, str]]:
    """What the history says about jobs."""
    rows = await world.fetch("select kind, subject, actor from memory_activity where kind like 'job%' order by id")
    return [tuple(row) for row in rows]


async def test_a_job_tells_what_it_does_how_far_it_is_and_what_it_cost(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(7)
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", paid(vendor)), "Ready")
        [job] = await _jobs(api)
        assert (await api.get(f"{JOBS}/{job['id']}")).json() == job
        assert job.pop("rate") > 0
        assert all(job.pop(name) for name in ("created_at", "first_call_at", "finished_at"))
        assert float(job.pop("cost")) == pytest.approx(job.pop("tokens") * 0.02 / 1000)
        assert job == {
            "id": 1,
            "kind": "fill",
            "embedding_version": "a-64-1",
            "provider": "default/memory",
            "project": None,
            "replace": False,
            "state": "done",
            "paused_for": None,
            "message": None,
            "done": 7,
            "total": 7,
            "eta_seconds": None,
            "currency": "USD",
            "calls": 1,
            "copied": 0,
            "quarantined": 0,
            "requested_by": "memory-operator",
            "max_rows": None,
            "sleep_ms": 0,
        }


async def test_jobs_are_listed_newest_first_page_by_page(world: World, api: Api) -> None:
    async with world.operator():
        first = await opened(world, api)
        await api.post(f"{JOBS}/{first}/cancel")
        space = await world.value("select space_id from memory_reembed_jobs where id = $1", first)
        for _ in range(2):
            await world.fetch(
                "insert into memory_reembed_jobs (space_id, bound, total, state) values ($1, 0, 0, 'done')", space
            )
        page = (await api.get(JOBS, params={"limit": 2})).json()
        assert [job["id"] for job in page["jobs"]] == [first + 2, first + 1]
        rest = (await api.get(JOBS, params={"limit": 2, "before": page["next_before"]})).json()
        assert ([job["id"] for job in rest["jobs"]], rest["next_before"]) == ([first], None)


async def test_a_paused_job_stands_still_until_it_is_resumed(world: World, api: Api) -> None:
    await world.stored(3)
    async with world.operator():
        number = await opened(world, api)
        for _ in range(2):
            paused = (await api.post(f"{JOBS}/{number}/pause")).json()
            assert (paused["state"], paused["paused_for"]) == ("paused", "user")
        async with world.worker():
            # What is written meanwhile is embedded at once, which shows that the worker had the time to look.
            added = (await api.post("/memory/add", {"text": "written while the fill is paused"})).json()
            assert added["embedding_status"] == "embedded"
            assert (await api.get(f"{JOBS}/{number}")).json()["done"] == 0
            for _ in range(2):
                resumed = await api.post(f"{JOBS}/{number}/resume")
                assert resumed.json()["paused_for"] is None, resumed.text
            await until(lambda: _state(api, number, "done"), "the job is done")
        kinds = [kind for kind, subject, actor in await told(world) if (subject, actor) == ("a-64-1", "local")]
        assert kinds == ["job_paused", "job_resumed"]


async def _state(api: Api, number: int, state: str) -> bool:
    return bool((await api.get(f"{JOBS}/{number}")).json()["state"] == state)


async def test_a_cancelled_job_has_ended_and_keeps_what_it_stored(world: World, api: Api) -> None:
    await world.stored(3)
    async with world.operator():
        number = await opened(world, api)
        for _ in range(2):
            cancelled = (await api.post(f"{JOBS}/{number}/cancel", {})).json()
            assert cancelled["state"] == "cancelled"
            assert cancelled["finished_at"]
        assert await world.value("select count(*) from memory_reembed_leases") == 0
        for verb in ("pause", "resume"):
            problem = refused(await api.post(f"{JOBS}/{number}/{verb}"), 409, "job_ended")
            assert problem["state"] == "cancelled"
        assert [kind for kind, _, _ in await told(world)] == ["job_cancelled"]


async def test_there_is_no_job_of_an_unknown_number(api: Api) -> None:
    refused(await api.get(f"{JOBS}/7"), 404, "not_found")
    for verb in ("pause", "resume", "cancel"):
        refused(await api.post(f"{JOBS}/7/{verb}"), 404, "not_found")
    refused(await api.get(f"{JOBS}/nought"), 400)


async def test_a_job_that_waits_for_its_budget_is_resumed_only_once_that_allows_more(
    world: World, api: Api, vendor: StubVendor
) -> None:
    await world.stored(30)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", paid(vendor, budget={"tokensPerJob": 100}, batchSize=4))
        [job] = await until(lambda: _paused(api), "the job is paused")
        assert job["paused_for"] == "budget"
        assert job["message"]

        async def refusal() -> Any:
            # What was under way at the pause took less than estimated: then a little more may be sent.
            answer = await api.post(f"{JOBS}/{job['id']}/resume")
            return answer if answer.status_code == 409 else None

        problem = refused(await until(refusal, "the refusal is there"), 409, "budget_reached")
        assert problem["budget"] == {"tokens_per_job": 100}
        assert problem["tokens_left"] < 100
        assert "default/memory" in problem["hint"]
        world.cluster.apply("memory", paid(vendor, budget={"tokensPerJob": 100_000}, batchSize=4))
        await until(lambda: _state(api, job["id"], "done"), "the job is done")
        await world.until_phase(ref, "Ready")


async def _paused(api: Api) -> list[dict[str, Any]]:
    return [job for job in await _jobs(api) if job["state"] == "paused"]


async def test_steering_a_job_needs_the_right_to(world: World, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    rights = {"reader": ["read"], "steerer": ["read", "jobs"]}
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": "default", "rights": granted}
        for name, granted in rights.items()
    ]
    file.write_text(json.dumps(entries))
    async with world.operator(), serve(world, token_auth(file), authorization="Bearer reader") as api:
        number = await opened(world, api)
        for verb in ("pause", "resume", "cancel"):
            problem = refused(await api.post(f"{JOBS}/{number}/{verb}"), 403, "forbidden")
            assert "providers/jobs" in problem["detail"]
        for path in ("/v1/reembed", "/v1/reindex"):
            for body in ({"dry_run": True}, {"provider": "default/memory"}, {"embedding_version": "a-64-1"}):
                refused(await api.post(path, body), 403, "forbidden")
        steerer = {"authorization": "Bearer steerer"}
        assert (await api.post("/v1/reembed", {"dry_run": True}, headers=steerer)).status_code == 200
        assert (await api.post(f"{JOBS}/{number}/cancel", headers=steerer)).status_code == 200
        refused(await api.get(JOBS, headers={"authorization": "Bearer nobody"}), 401)
