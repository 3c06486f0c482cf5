"""What was used, what it cost, and what is left, over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.engine.admin.usage import Accounts, Bill
from memory_operator.http.auth.tokens import token_auth
from memory_operator.settings import WorkerSettings
from memory_operator.store.usage import rollup
from memory_operator.store.usage.totals import GroupBy
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


GROUPS: tuple[GroupBy, ...] = ("day", "purpose", "model", "provider", "tenant")


async def rolled_up(world: World, rows: int) -> int:
    async with world.store.transaction() as conn:
        return await rollup.roll_up(conn, 1, rows)


async def told(world: World) -> list[Bill]:
    """Usage by everything, of everybody and of one tenant."""
    accounts, (since, until_) = Accounts(world.store), (date.fromisoformat(day) for day in SPAN.values())
    return [await accounts.usage(group, since, until_, tenant) for group in GROUPS for tenant in (None, "ours")]


async def kept(world: World) -> list[str]:
    rows = await world.fetch("select state from memory_usage_ledger order by state")
    return [row["state"] for row in rows]


@pytest.mark.parametrize("rows", [1, 3, 1000])
async def test_usage_is_told_the_same_after_each_slice(world: World, rows: int) -> None:
    await some_calls(world)
    await paid(world, "shared and lost", "ours", state="unanswered", estimated=5)
    await paid(world, "shared and lost", "theirs", state="unanswered", estimated=6)
    await paid(world, "free", "ours", tokens=2**62, inputs=1)
    before = await told(world)
    while await rolled_up(world, rows):
        assert await told(world) == before
    assert await kept(world) == ["sent"]
    assert await world.value("select sum(whole_calls) from memory_usage_days") == 7
    # One more call of a day that was added up before.
    await paid(world, "late", "ours", tokens=1, cost="0.5")
    before = await told(world)
    assert await rolled_up(world, rows) == 1
    assert await told(world) == before


async def test_what_is_younger_is_kept_and_two_workers_count_nothing_twice(world: World) -> None:
    for number in range(60):
        await paid(world, f"old {number}", "ours", tokens=1, at=f"2026-03-{1 + number % 20:02d}T00:00:00+00:00")
    now = await world.value("select now()")
    await paid(world, "new", "ours", tokens=1, at=now.isoformat())
    before = await told(world)
    counts = await asyncio.gather(*(rolled_up(world, 25) for _ in range(6)))
    while await rolled_up(world, 25):
        pass
    assert sum(counts) <= 60
    assert await told(world) == before
    assert await world.value("select count(*) from memory_usage_ledger") == 1
    assert await world.value("select sum(calls) from memory_usage_days") == 60


async def test_a_worker_adds_up_by_itself_what_is_older_than_its_setting(world: World, api: Api) -> None:
    days_ago = {days: await world.value("select now() - make_interval(days => $1)", days) for days in (5, 89, 92)}
    for days, at in days_ago.items():
        await paid(world, f"{days}", "ours", tokens=1, at=at.isoformat())
    span = {"from": days_ago[92].date().isoformat()}
    before = (await api.get(USAGE, params=span)).json()
    for settings, left in ((WorkerSettings(), 2), (WorkerSettings(ledger_days=30), 1)):
        async with world.worker(settings=settings):
            await until(
                lambda left=left: world.value("select count(*) = $1 from memory_usage_ledger", left),
                "the ledger is added up",
            )
        assert (await api.get(USAGE, params=span)).json() == before


async def test_a_slice_that_was_cut_off_leaves_everything_as_it_was(world: World) -> None:
    await some_calls(world)
    before, rows = await told(world), await kept(world)
    async with world.store.dedicated("cut off") as conn:
        await conn.execute("begin")
        assert await rollup.roll_up(conn, 1) > 0
        conn.terminate()
    assert (await told(world), await kept(world)) == (before, rows)
