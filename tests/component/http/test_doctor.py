"""The doctor: each thing broken is a line of its own, with what mends it, and nothing that is broken hides another."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fixtures.api import Api, refused, serve
from fixtures.engine import World, open_world
from fixtures.fills import provider
from fixtures.waiting import until
from fixtures.wire import Wire
from memory_operator.engine.admin.doctor.examine import Doctor
from memory_operator.engine.admin.doctor.report import CHECKS, Report, Scope
from memory_operator.http.auth.tokens import token_auth
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.health import expected_indexes
from vendor.stub import Fault, StubVendor

DOCTOR, REPAIR = "/v1/doctor", "/v1/doctor/repair"
RUNBOOK = Path(__file__).parents[3] / "docs/runbook.md"
Findings = list[dict[str, Any]]


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def examined(api: Api, **body: Any) -> Findings:
    """What the doctor says."""
    answer = await api.post(DOCTOR, body)
    assert answer.status_code == 200, answer.text
    found: Findings = answer.json()["checks"]
    return found


def of(check: str, found: Findings, *results: str) -> Findings:
    """What a check found, of some results only."""
    return [each for each in found if each["check"] == check and (not results or each["result"] in results)]


async def filled(world: World, stack: AsyncExitStack, chunks: int = 5, **spec: Any) -> None:
    """A store with some memories and one Provider, whose space is ready."""
    await world.stored(chunks)
    await stack.enter_async_context(world.operator())
    async with world.worker():
        ref = world.cluster.apply("memory", {"type": "mock", "model": "a", "embedding": {"dimensions": 8}, **spec})
        await world.until_phase(ref, "Ready")


async def execute(world: World, *statements: str) -> None:
    async with world.store.connection() as conn:
        for statement in statements:
            await conn.execute(statement)


async def test_where_all_is_well_every_check_says_so(world: World, api: Api) -> None:
    async with AsyncExitStack() as stack:
        await filled(world, stack)
        answer = (await api.post(DOCTOR)).json()
        found = answer["checks"]
        assert {each["check"] for each in found} == set(CHECKS)
        wrong = [each for each in found if each["result"] in ("fail", "warn") and each["check"] != "pgvector"]
        assert wrong == []
        assert [each["message"] for each in of("webhook", found)] == ["this process knows no cluster"]
        [called] = of("provider", found)
        assert called["subject"] == "default/memory"
        assert called["message"].startswith("the embedder of a-8-1 answers 8 dimensions in ")
        assert answer["verdict"] == ("warn" if of("pgvector", found, "warn") else "ok")


async def test_an_empty_store_has_no_embedder(world: World, api: Api) -> None:
    found = await examined(api)
    assert [each["message"] for each in found if each["result"] == "fail"] == ["there is no embedder"]
    assert {each["check"] for each in found} == set(CHECKS)


LEASE = (
    "insert into memory_reembed_jobs (space_id, bound, total, requested_by) values (1, 10, 10, 'test')",
    """insert into memory_reembed_leases (job_id, after_id, upto_id, state, token, presence, expires_at)
    select id, 0, 10, 'leased', gen_random_uuid(), 1, now() - interval '2 minutes' from memory_reembed_jobs
    where state = 'running'""",
)

BROKEN = [
    ("drop index memory_embedding_pending_chunk", "indexes", "fail", "memory_embedding_pending_chunk"),
    ("update memory_store set key_check = '\\x00'", "master-key", "fail", "is damaged"),
    (
        "update memory_store set key_fingerprint = 'other'",
        "master-key",
        "fail",
        "was made with the master key other",
    ),
    (
        "delete from memory_schema_migrations where version = 27",
        "migrations",
        "fail",
        "1 migrations are to run, the first is 0027_index",
    ),
    (
        "update memory_schema_migrations set checksum = 'x' where version = 27",
        "migrations",
        "fail",
        "others when they ran here: 0027_index",
    ),
    (
        "update memory_schema_migrations set requires_code = '99.0.0' where version = 27",
        "migrations",
        "fail",
        "requires memory-operator 99.0.0",
    ),
    (
        "delete from memory_vectors_1; update memory_embedding_counters set n = 0 where scope = 1",
        "coverage",
        "fail",
        "5 of 5 chunks have no vector",
    ),
    (
        "insert into memory_embedding_pending select 1, max(id), now() - interval '20 minutes' from memory_chunks",
        "pending",
        "warn",
        "the oldest for 20 minutes",
    ),
    (
        "insert into memory_embedding_pending select 1, max(id), now() - interval '2 hours' from memory_chunks",
        "pending",
        "fail",
        "1 chunks wait for a vector",
    ),
    (
        """insert into memory_embedding_quarantine (space_id, chunk_id, reason)
        select 1, max(id), 'no' from memory_chunks""",
        "quarantine",
        "warn",
        "refuses 1 chunks",
    ),
    (LEASE[0], "jobs", "fail", "no worker is alive"),
    (
        """insert into memory_reembed_jobs (space_id, bound, total, requested_by, state, paused_for)
        values (1, 10, 10, 'test', 'paused', 'user')""",
        "jobs",
        "warn",
        "is paused",
    ),
    ("; ".join(LEASE), "leases", "warn", "1 ranges expired"),
    ("update memory_embedding_spaces set state = 'orphaned'", "orphans", "warn", "the Provider default/memory is gone"),
    ("create table memory_vectors_999 (a int)", "orphans", "warn", "memory_vectors_999 (0 MiB) belongs to no space"),
    ("create table memory_vectors_1_job_7 (a int)", "orphans", "warn", "belongs to no space"),
    ("update memory_registry set active_space_id = null", "active-space", "fail", "no space is active"),
    (
        "update memory_registry set active_space_id = null, inactive_reason = 'disabled'",
        "active-space",
        "warn",
        "turned off",
    ),
]


@pytest.mark.parametrize(("statements", "check", "result", "said"), BROKEN)
async def test_what_is_broken_is_said_with_what_mends_it(
    world: World, statements: str, check: str, result: str, said: str
) -> None:
    await broken(world, statements)
    async with serve(world) as api:
        found = await examined(api, calls=False)
        [line] = of(check, found, "fail", "warn")
        assert (line["result"], said in line["message"]) == (result, True), line
        assert line["remedy"]
        others = {each["check"] for each in found} - {check}
        assert others == set(CHECKS) - {check}


async def broken(world: World, statements: str) -> None:
    """A store with a ready space, left to nobody, in which something is broken."""
    async with AsyncExitStack() as stack:
        await filled(world, stack)
    await execute(world, *statements.split("; "))


async def test_dead_rows_are_told(world: World, api: Api) -> None:
    await execute(
        world,
        """insert into memory_activity (actor, origin, kind, subject)
        select '', '', '', '' from generate_series(1, 20000)""",
        "delete from memory_activity",
    )

    async def told() -> Findings:
        return of("bloat", await examined(api), "warn")

    [line] = await until(told, "the server's statistics have the dead rows")
    assert "memory_activity has 20,000 dead rows" in line["message"]
    assert "VACUUM (ANALYZE) memory_activity" in line["remedy"]


async def test_a_change_that_waits_for_consent_is_a_warning(world: World, api: Api) -> None:
    async with AsyncExitStack() as stack:
        await filled(world, stack)
        spec = {"type": "mock", "model": "a", "embedding": {"dimensions": 16}}
        await world.until_phase(world.cluster.apply("memory", spec), "Held")
        [line] = of("held", await examined(api))
        assert line["result"] == "warn"
        assert "from 8 to 16 dimensions waits for consent; it discards 5 vectors" in line["message"]
        assert "memory embeddings consent 16 --provider default/memory" in line["remedy"]


async def test_a_provider_without_a_space_is_told_with_its_reason(world: World, api: Api) -> None:
    async with world.operator():
        spec = {"type": "openai", "model": "text-embedding-3-small", "credential": {"secretRef": {"name": "none"}}}
        await world.until_phase(world.cluster.apply("lost", {**spec, "embedding": {"dimensions": 8}}), "Error")
        [line] = of("provider", await examined(api), "fail")
        assert line["subject"] == "default/lost"
        assert "SecretMissing" in line["message"]
        assert line["remedy"] == "kubectl -n default describe provider lost"


async def test_an_incomplete_index_is_dropped_by_its_owner_and_not_by_the_api(world: World, api: Api) -> None:
    async with AsyncExitStack() as stack:
        await filled(world, stack)
    with pytest.raises(Exception, match=r"could not create unique index|duplicate"):
        await execute(
            world,
            "create unique index concurrently memory_vectors_1_hnsw_cosine on memory_vectors_1 ((project_id))",
        )
    [line] = of("indexes", await examined(api), "warn")
    assert "left the index memory_vectors_1_hnsw_cosine behind incomplete" in line["message"]
    assert line["repair"] == {
        "kind": "drop-index",
        "subject": "memory_vectors_1_hnsw_cosine",
        "tokens": 0,
        "cost": None,
        "currency": "USD",
    }
    problem = refused(await api.post(REPAIR, {"kind": "drop-index", "subject": line["subject"]}), 403)
    assert "memory-operator check --deep --fix" in problem["hint"]
    assert await world.value("select count(*) from pg_class where relname = 'memory_vectors_1_hnsw_cosine'") == 1
    doctor = Doctor(world.store, world.connector, world.keys)
    assert await doctor.repair("drop-index", line["subject"], Actor("test", "here")) == 1
    assert await doctor.repair("drop-index", "memory_embedding_pending_chunk", Actor("test", "here")) == 0
    assert of("indexes", await examined(api), "warn", "fail") == []


async def test_ranges_that_a_dead_worker_left_are_freed(world: World, api: Api) -> None:
    await broken(world, "; ".join(LEASE))
    assert of("leases", await examined(api), "warn")[0]["repair"]["kind"] == "release-leases"
    assert (await api.post(REPAIR, {"kind": "release-leases"})).json() == {"kind": "release-leases", "repaired": 1}
    assert await world.value("select state from memory_reembed_leases") == "open"
    assert of("leases", await examined(api), "warn") == []
    assert (await api.get("/activity")).json()["activities"][0]["kind"] == "repaired"


async def test_missing_vectors_are_offered_at_their_price_and_made(world: World, api: Api, vendor: StubVendor) -> None:
    async with AsyncExitStack() as stack:
        pricing = {"inputCostPer1K": "0.5"}
        await filled(world, stack, **provider(vendor), pricing=pricing)
        await execute(
            world, "delete from memory_vectors_1", "update memory_embedding_counters set n = 0 where scope = 1"
        )
        [line] = of("coverage", await examined(api), "fail")
        repair = line["repair"]
        assert (repair["kind"], repair["subject"]) == ("reembed", "a-64-1")
        assert repair["tokens"] > 0
        assert float(repair["cost"]) == pytest.approx(repair["tokens"] * 0.5 / 1000)
        refused(await api.post(REPAIR, {"kind": "reembed"}), 400)
        await stack.enter_async_context(world.worker())
        await api.post("/v1/reembed", {"embedding_version": repair["subject"]})

        async def mended() -> bool:
            return not of("coverage", await examined(api, calls=False), "fail", "warn")

        await until(mended, "the vectors are there again")


async def test_each_provider_is_called_once_and_the_ledger_has_it(world: World, api: Api, vendor: StubVendor) -> None:
    async with AsyncExitStack() as stack:
        await filled(world, stack, **provider(vendor))
        calls = "select count(*) from memory_usage_ledger where purpose = 'probe' and state = 'answered'"
        before, sent = await world.value(calls), len(vendor.calls)
        [line] = of("provider", await examined(api))
        assert line["result"] == "ok"
        assert len(vendor.calls) == sent + 1
        assert await world.value(calls) == before + 1
        [line] = of("provider", await examined(api, calls=False))
        assert (line["result"], len(vendor.calls)) == ("skipped", sent + 1)


async def test_a_silent_vendor_keeps_no_other_provider_from_being_looked_at(
    world: World, api: Api, vendor: StubVendor
) -> None:
    with StubVendor(dimensions=32) as silent:
        async with AsyncExitStack() as stack:
            await filled(world, stack, **provider(vendor))
            ref = world.cluster.apply("other", provider(silent, "b", 32))
            async with world.worker():
                await world.until_phase(ref, "Ready")
            silent.fault, before = Fault(hold=True), len(silent.calls)
            running = asyncio.create_task(examined(api))
            await until(lambda: len(silent.calls) > before, "the silent one is called")
            found = {each["subject"]: each for each in of("provider", await running)}
            silent.fault = None
            assert found["default/memory"]["result"] == "ok"
            assert found["default/other"]["result"] == "fail"
            assert "gives no vector" in found["default/other"]["message"]


async def test_a_vendor_that_refuses_or_gives_another_dimension_is_told(
    world: World, api: Api, vendor: StubVendor
) -> None:
    async with AsyncExitStack() as stack:
        await filled(world, stack, **provider(vendor))
        for fault, said in ((Fault(status=401), "gives no vector"), (Fault(length=-1), "63")):
            vendor.fault = fault
            [line] = of("provider", await examined(api), "fail")
            assert said in line["message"], line
            assert line["remedy"]


async def test_a_database_that_says_nothing_is_a_finding_and_no_hang(world: World) -> None:
    async with AsyncExitStack() as stack:
        await filled(world, stack)
    async with Wire(world.dsn).laid() as wire, open_world(wire.dsn, world.cluster) as far:
        doctor = Doctor(far.store, far.connector, far.keys, statement_seconds=0.5)
        assert said(await doctor.examine(Scope()), "database")[0] == "ok"
        running = asyncio.create_task(doctor.examine(Scope()))
        wire.freeze()
        try:
            await until(running.done, "the doctor ends while the database is frozen")
        finally:
            wire.thaw()
        assert said(await running, "database")[0] == "fail"
        assert said(await running, "coverage")[0] == "skipped"


async def test_a_table_that_somebody_has_locked_is_a_finding_of_its_check(world: World) -> None:
    async with AsyncExitStack() as stack:
        await filled(world, stack)
    doctor = Doctor(world.store, world.connector, world.keys, statement_seconds=0.5)
    async with world.store.transaction() as conn:
        await conn.execute("lock table memory_schema_migrations in access exclusive mode")
        report = await doctor.examine(Scope())
    assert said(report, "migrations")[0] == "fail"
    assert said(report, "database")[0] == "ok"
    assert said(report, "bloat")[0] == "ok"


def said(report: Report, check: str) -> tuple[str, str]:
    """Result and text of the first finding of a check."""
    return next((each.result, each.message) for each in report.findings if each.check == check)


async def test_what_a_caller_may_not_see_is_said_and_no_error(world: World, vendor: StubVendor, tmp_path: Path) -> None:
    rights = {"reader": ["read"], "agent": ["memories:get"], "filler": ["read", "jobs"]}
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": "agents", "rights": given}
        for name, given in rights.items()
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(entries))

    async def by(name: str) -> Findings:
        found: Findings = (await api.post(DOCTOR, {}, headers={"authorization": f"Bearer {name}"})).json()["checks"]
        return found

    async with AsyncExitStack() as stack:
        await filled(world, stack, **provider(vendor))
        async with serve(world, token_auth(file)) as api:
            calls = len(vendor.calls)
            assert {each["result"] for each in await by("agent")} == {"not_permitted"}
            [line] = of("provider", await by("reader"))
            assert line["result"] == "not_permitted"
            assert "create on providers/jobs" in line["message"]
            assert of("active-space", await by("reader"))[0]["result"] == "ok"
            assert len(vendor.calls) == calls
            assert of("provider", await by("filler"))[0]["result"] == "ok"
            body = {"kind": "release-leases"}
            refused(await api.post(REPAIR, body, headers={"authorization": "Bearer reader"}), 403, "forbidden")


def test_the_runbook_has_a_row_for_each_check() -> None:
    rows = [line.split("|")[1].strip() for line in RUNBOOK.read_text().splitlines() if line.startswith("| `")]
    assert [row.strip("`") for row in rows if row.strip("`") in CHECKS] == list(CHECKS)


def test_an_index_that_a_migration_drops_is_not_expected() -> None:
    made = [
        "create index a on t (x);\n-- create index b on t (x);",
        "create unique index concurrently if not exists c on t",
    ]
    assert expected_indexes(made) == ["a", "c"]
    assert expected_indexes([*made, "drop index if exists a;"]) == ["c"]
