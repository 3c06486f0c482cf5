"""What was used, what it cost, and what is left, over HTTP."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.http.auth.tokens import token_auth
from vendor.stub import StubVendor

USAGE = "/v1/usage"
DAY = "2026-03-04T12:00:00+00:00"
NEXT_DAY = "2026-03-05T00:00:00+00:00"


async def paid(world: World, call: str, tenant: str | None, **given: Any) -> None:
    """A row of the ledger."""
    row = {
        "at": DAY,
        "state": "answered",
        "purpose": "fill",
        "name": "memory",
        "model": "a",
        "inputs": 2,
        "estimated": 10,
        "tokens": None,
        "cost": None,
        **given,
    }
    if tenant:
        await world.keys.tenant(world.store, tenant)
    await world.fetch(
        "insert into memory_usage_ledger (call_id, at, state, purpose, tenant_id, provider_namespace, provider_name,"
        " model, inputs, estimated_tokens, tokens, cost) values (md5($1)::uuid, $2::text::timestamptz, $3, $4,"
        " (select id from memory_tenants where name = $5), 'default', $6, $7, $8, $9, $10, $11::text::numeric)",
        call,
        row["at"],
        row["state"],
        row["purpose"],
        tenant,
        *[row[name] for name in ("name", "model", "inputs", "estimated", "tokens", "cost")],
    )


async def some_calls(world: World) -> None:
    """Two days, two tenants, two Providers; one call shared, one unanswered, one refused, one a probe."""
    await paid(world, "shared", "ours", tokens=7, cost="0.00000007")
    await paid(world, "shared", "theirs", tokens=8, cost="0.00000008")
    await paid(world, "query", "ours", purpose="query", inputs=1, tokens=3, cost="0.1", at=NEXT_DAY)
    await paid(world, "lost", "ours", state="unanswered", at=NEXT_DAY, estimated=40)
    await paid(world, "no", "theirs", state="refused", name="other", model="b")
    await paid(world, "under way", "ours", state="sent", at=NEXT_DAY)
    await paid(world, "probe", None, purpose="probe", inputs=1, name="other", model="b", tokens=2, at=NEXT_DAY)


def tokens_file(folder: Path) -> Path:
    """Two callers: one of tenant `ours`, and one who may begin jobs."""
    file = folder / "tokens.json"
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": "ours", "rights": rights}
        for name, rights in {"tenant": ["memories:get"], "operator": ["jobs", "read"], "nobody": ["read"]}.items()
    ]
    file.write_text(json.dumps(entries))
    return file


SPAN = {"from": "2026-03-01", "to": "2026-03-31"}


async def test_usage_is_added_up_by_what_is_asked_for(world: World, api: Api) -> None:
    await some_calls(world)
    answer = (await api.get(USAGE, params=SPAN)).json()
    assert (answer["from"], answer["to"], answer["tenant"]) == ("2026-03-01", "2026-03-31", None)
    assert [(day["group"], day["calls"], day["tokens"]) for day in answer["groups"]] == [
        ("2026-03-04", 2, 15),
        ("2026-03-05", 4, 5),
    ]
    assert answer["total"] == {
        "calls": 6,
        "unanswered_calls": 1,
        "refused_calls": 1,
        "open_calls": 1,
        "inputs": 6,
        "tokens": 20,
        "uncounted_tokens": 40,
        "cost": "0.10000015",
        "currency": "USD",
    }
    expected = {
        "purpose": {"fill": 15, "query": 3, "probe": 2},
        "model": {"a": 18, "b": 2},
        "provider": {"default/memory": 18, "default/other": 2},
        "tenant": {"": 2, "ours": 10, "theirs": 8},
    }
    for name, tokens in expected.items():
        found = (await api.get(USAGE, params={**SPAN, "group_by": name})).json()
        assert {each["group"]: each["tokens"] for each in found["groups"]} == tokens
        assert found["total"] == answer["total"]
    assert (await api.get(USAGE, params={**SPAN, "group_by": "provider"})).json()["groups"][1]["cost"] is None


async def test_a_span_of_days_has_both_its_ends_in_it(world: World, api: Api) -> None:
    await some_calls(world)
    one_day = (await api.get(USAGE, params={"from": "2026-03-04", "to": "2026-03-04"})).json()
    assert [day["group"] for day in one_day["groups"]] == ["2026-03-04"]
    lately = (await api.get(USAGE)).json()
    today = datetime.now(UTC).date()
    assert (lately["from"], lately["to"]) in [
        ((day - timedelta(days=29)).isoformat(), day.isoformat()) for day in (today, today - timedelta(days=1))
    ]
    assert (await api.get(USAGE, params={"from": "0001-01-01", "to": "9999-12-31"})).status_code == 200
    refused(await api.get(USAGE, params={"from": "2026-03-05", "to": "2026-03-04"}), 400)
    refused(await api.get(USAGE, params={"from": "yesterday"}), 400)
    refused(await api.get(USAGE, params={"group_by": "colour"}), 400)


async def test_a_tenant_sees_its_own_part_and_nobody_elses(world: World, tmp_path: Path) -> None:
    await some_calls(world)
    async with serve(world, token_auth(tokens_file(tmp_path))) as api:
        own = (await api.get(USAGE, params=SPAN, headers={"authorization": "Bearer tenant"})).json()
        assert (own["tenant"], own["total"]["tokens"], own["total"]["cost"]) == ("ours", 10, "0.10000007")
        named = {**SPAN, "group_by": "tenant"}
        groups = (await api.get(USAGE, params=named, headers={"authorization": "Bearer tenant"})).json()["groups"]
        assert [group["group"] for group in groups] == ["ours"]
        everything = (await api.get(USAGE, params=SPAN, headers={"authorization": "Bearer operator"})).json()
        assert (everything["tenant"], everything["total"]["tokens"]) == (None, 20)
        refused(await api.get(USAGE, headers={"authorization": "Bearer nobody"}), 403)


async def test_a_fill_is_on_the_bill_and_counts_against_the_budget(world: World, api: Api) -> None:
    await world.stored(9)
    with StubVendor(dimensions=64) as vendor:
        spec = {
            "type": "openai_compatible",
            "model": "a",
            "baseURL": vendor.base_url,
            "pricing": {"inputCostPer1K": "0.02"},
            "embedding": {
                "dimensions": 64,
                "budget": {"tokensPerDay": 100_000, "costPerDay": "5", "tokensPerJob": 1_000},
                "limits": {"requestsPerMinute": 6_000},
            },
        }
        async with world.operator(), world.worker():
            await world.until_phase(world.cluster.apply("memory", spec), "Ready")
            used = (await api.get(USAGE, params={"group_by": "purpose"})).json()
            fill = next(group for group in used["groups"] if group["group"] == "fill")
            [quota] = (await api.get("/v1/quotas")).json()["quotas"]
    assert (fill["calls"], fill["inputs"], fill["unanswered_calls"]) == (1, 9, 0)
    assert float(fill["cost"]) == pytest.approx(fill["tokens"] * 0.02 / 1000)
    midnight = datetime.fromisoformat(quota.pop("resets_at"))
    assert datetime.now(UTC) < midnight <= datetime.now(UTC) + timedelta(days=1)
    assert quota == {
        "provider": "default/memory",
        "embedding_version": "a-64-1",
        "budget": {"tokens_per_job": 1_000, "cost_per_job": None, "tokens_per_day": 100_000, "cost_per_day": "5"},
        "limits": {"requests_per_minute": 6_000, "tokens_per_minute": None, "concurrency": None},
        "today": {
            "tokens": fill["tokens"],
            "cost": fill["cost"],
            "tokens_left": 100_000 - fill["tokens"],
            "cost_left": quota["today"]["cost_left"],
        },
        "job": None,
        "currency": "USD",
    }
    assert float(quota["today"]["cost_left"]) == pytest.approx(5 - float(fill["cost"]))


async def test_the_quota_tells_which_job_waits_for_its_budget(world: World, api: Api) -> None:
    await world.stored(30)
    with StubVendor(dimensions=64) as vendor:
        spec = {
            "type": "openai_compatible",
            "model": "a",
            "baseURL": vendor.base_url,
            "embedding": {"dimensions": 64, "budget": {"tokensPerJob": 100}, "batchSize": 4},
        }
        async with world.operator(), world.worker():
            world.cluster.apply("memory", spec)
            job = await until(lambda: _paused(api), "the job is paused")
    assert job["used"]["tokens"] > 0
    assert job["used"]["tokens_left"] == max(0, 100 - job["used"]["tokens"])


async def _paused(api: Api) -> dict[str, Any] | None:
    quotas = (await api.get("/v1/quotas")).json()["quotas"]
    job: dict[str, Any] | None = quotas[0]["job"] if quotas else None
    return job if job and job["state"] == "paused" else None
