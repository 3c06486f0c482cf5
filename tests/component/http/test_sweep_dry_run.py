"""A dry run of a sweep writes nothing, and counts exactly what the run then does, whatever is asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from fixtures.api import Api, serve
from fixtures.engine import World, open_world
from fixtures.fills import sent, sound
from fixtures.postgres import Server
from fixtures.waiting import until
from memory_operator.memory.chunking import MAX_CHUNK_BYTES, tokens_of
from memory_operator.store.spaces import registry
from vendor.stub import StubVendor

REEMBED = "/v1/reembed"
PROJECTS = ("ours", "theirs")
PREFIX = "d: "
PRICE = Decimal("0.02")
TEXTS = ["x" * (MAX_CHUNK_BYTES + 1), "y" * MAX_CHUNK_BYTES, *(f"text {'of some words ' * n}{n}" for n in range(4))]
"""One that is never sent, one that just is, and some that are shared by several chunks."""

TABLES = (
    *("memory_reembed_jobs", "memory_reembed_leases", "memory_reembed_skipped", "memory_activity", "memory_chunks"),
    *("memory_vectors_1", "memory_embedding_quarantine", "memory_embedding_pending", "memory_usage_ledger"),
)


@dataclass(frozen=True)
class Chunk:
    """One chunk before a sweep."""

    text: int
    project: int
    has: str
    """vector, nothing, or quarantine."""


@dataclass(frozen=True)
class Round:
    """What is stored, and what is asked for."""

    chunks: list[Chunk]
    project: int | None
    max_rows: int | None
    replace: bool
    sleep_ms: int


CHUNKS = st.builds(
    Chunk, st.integers(0, len(TEXTS) - 1), st.integers(0, 1), st.sampled_from(["vector", "nothing", "quarantine"])
)
ROUNDS = st.builds(
    Round,
    st.lists(CHUNKS, max_size=9),
    st.sampled_from([None, None, 0, 1]),
    st.sampled_from([None, None, 1, 2, 4, 50]),
    st.booleans(),
    st.sampled_from([0, 0, 1]),
)
KNOWN_ELSEWHERE = Round([Chunk(3, 1, "vector"), Chunk(3, 0, "nothing"), Chunk(4, 0, "nothing")], 0, None, False, 0)
BEYOND_THE_LAST = Round([Chunk(3, 0, "vector"), Chunk(3, 0, "vector"), Chunk(3, 0, "nothing")], None, 1, True, 0)
TOO_LARGE = Round([Chunk(0, number % 2, "vector") for number in range(4)] + [Chunk(0, 0, "nothing")], 0, None, True, 0)


@settings(
    max_examples=3,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@seed(20261127)
@example(rounds=[KNOWN_ELSEWHERE, BEYOND_THE_LAST, TOO_LARGE])
@given(rounds=st.lists(ROUNDS, min_size=8, max_size=8))
def test_a_dry_run_counts_exactly_what_the_run_then_does(
    postgres_server: Server, template_database: str, rounds: list[Round]
) -> None:
    name = postgres_server.create(template_database)
    try:
        asyncio.run(_all(postgres_server.url(name, superuser=False), rounds))
    finally:
        postgres_server.drop(name)


async def _all(dsn: str, rounds: list[Round]) -> None:
    with StubVendor(dimensions=8) as vendor:
        async with open_world(dsn) as world, serve(world) as api, world.operator(), world.worker():
            spec = {
                "type": "openai_compatible",
                "model": "a",
                "baseURL": vendor.base_url,
                "pricing": {"inputCostPer1K": str(PRICE)},
                "embedding": {"dimensions": 8, "batchSize": 3, "documentPrefix": PREFIX},
            }
            await world.until_phase(world.cluster.apply("memory", spec), "Ready")
            for each in rounds:
                await _one(world, api, vendor, each)


async def _one(world: World, api: Api, vendor: StubVendor, asked_for: Round) -> None:
    await _stock(world, asked_for.chunks)
    request: dict[str, Any] = {"replace": asked_for.replace, "sleep_ms": asked_for.sleep_ms}
    if asked_for.project is not None:
        request["project"] = PROJECTS[asked_for.project]
    if asked_for.max_rows is not None:
        request["max_rows"] = asked_for.max_rows
    vendor.forget()
    before, vectors = await _everything(world), await _vectors(world)
    dry = await api.post(REEMBED, {**request, "dry_run": True})
    assert dry.status_code == 200, dry.text
    assert (await _everything(world), sent(vendor)) == (before, [])
    [planned], [begun] = dry.json()["spaces"], (await api.post(REEMBED, request)).json()["spaces"]
    estimate = planned["estimate"]
    assert planned["retried"] == begun["retried"]
    in_scope = [chunk for chunk in asked_for.chunks if asked_for.project in (None, chunk.project)]
    assert estimate["chunks"] == len(in_scope) == dry.json()["stored"]["chunks"]
    reached = len(in_scope) if asked_for.max_rows is None else asked_for.max_rows
    staying = in_scope[reached:] if asked_for.replace else in_scope
    kept = sum(chunk.has == "vector" for chunk in staying)
    assert (estimate["already_there"], estimate["pending"]) == (kept, 0)
    done = copied = refused = 0
    if begun["job"] is not None:
        job = await _ended(api, begun["job"]["id"])
        done, copied, refused = job["done"], job["copied"], job["quarantined"]
        assert job["total"] == done + refused
        skipped = (await api.get(f"/v1/jobs/{job['id']}/skipped")).json()["skipped"]
        assert (len(skipped), {each["project"] for each in skipped} <= set(PROJECTS)) == (refused, True)
    await until(lambda: _settled(world), "nothing follows any more")
    texts = sent(vendor)
    tokens = sum(tokens_of(len(text)) for text in texts)
    assert estimate["to_embed"] == len(texts) == len(set(texts))
    assert (estimate["copied"], estimate["to_embed"] + estimate["copied"]) == (copied, done)
    assert (estimate["estimated_tokens"], estimate["too_large"]) == (tokens, refused)
    assert Decimal(estimate["estimated_cost"]) == tokens * PRICE / 1000
    assert asked_for.max_rows is None or done + refused <= asked_for.max_rows
    await _nothing_else_changed(world, asked_for, vectors, done)


async def _nothing_else_changed(world: World, asked_for: Round, before: dict[int, str], done: int) -> None:
    """Vectors changed where the run did something, in its project alone, and none is gone."""
    after = await _vectors(world)
    assert before.keys() <= after.keys()
    changed = [chunk_id for chunk_id, vector in after.items() if before.get(chunk_id) != vector]
    assert len(changed) == done
    ids = [row["id"] for row in await world.fetch("select id from memory_chunks order by id")]
    projects = {chunk.project for chunk_id, chunk in zip(ids, asked_for.chunks, strict=True) if chunk_id in changed}
    assert asked_for.project is None or projects <= {asked_for.project}
    if asked_for.project is None and asked_for.max_rows is None:
        await sound(world)


async def _settled(world: World) -> bool:
    """A rebuild of what lacked some is followed by a fill, whose end says that the space is ready."""
    return not await world.value("select count(*) from memory_reembed_jobs where state = 'running'")


async def _ended(api: Api, number: int) -> dict[str, Any]:
    async def done() -> dict[str, Any] | None:
        found: dict[str, Any] = (await api.get(f"/v1/jobs/{number}")).json()
        return found if found["state"] == "done" else None

    found: dict[str, Any] = await until(done, "the job is done")
    return found


async def _stock(world: World, chunks: list[Chunk]) -> None:
    """Store chunks and nothing else; what has a vector has one that no text has, so that it shows what is replaced."""
    await world.fetch("truncate memory_entries cascade")
    await world.fetch("truncate memory_embedding_counters")
    for chunk in chunks:
        await world.stored_texts([TEXTS[chunk.text]], project=PROJECTS[chunk.project])
    for project in PROJECTS:
        await world.keys.project(world.store, await world.keys.tenant(world.store, "default"), project)
    rows = await world.fetch("select id, project_id from memory_chunks order by id")
    for row, chunk in zip(rows, chunks, strict=True):
        if chunk.has == "vector":
            marked = f"[{','.join(str(int(row['id'] >> bit & 1) or -1) for bit in range(8))}]"
            await world.fetch(
                "insert into memory_vectors_1 values ($1, $2, $3::text::vector)", row["id"], row["project_id"], marked
            )
        elif chunk.has == "quarantine":
            await world.fetch(
                "insert into memory_embedding_quarantine (space_id, chunk_id, reason, retry_at)"
                " values (1, $1, 'once', 'infinity')",
                row["id"],
            )
    async with world.store.transaction() as conn:
        await registry.count(conn, {1: sum(chunk.has == "vector" for chunk in chunks)})


async def _vectors(world: World) -> dict[int, str]:
    rows = await world.fetch("select chunk_id, embedding::text as vector from memory_vectors_1")
    return {row["chunk_id"]: row["vector"] for row in rows}


async def _everything(world: World) -> list[Any]:
    """A digest of each table that a sweep writes to."""
    digest = "select md5(coalesce(string_agg(t::text, ',' order by t::text), '')) from {} t"
    return [await world.value(digest.format(table)) for table in TABLES]
