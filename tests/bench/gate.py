"""What the gate takes: the reshape itself, and the way from a committed consent to the applied change."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from bench import gate_load
from fixtures.engine import Cluster, World, open_world
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.dev.postgres.server import RunningPostgres
from memory_operator.engine.gate import reshape
from memory_operator.memory.preprocess import PREPROCESSING_VERSION
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.migrate import migrate
from memory_operator.store.spaces import providers, registry, spaces, vectors
from memory_operator.store.spaces.spaces import Owner

DIMENSIONS = 768
BY = Actor("bench", "bench")


async def run(server: RunningPostgres, large: bool) -> list[dict[str, Any]]:
    """Figures of the gate; with `large` also for a million vectors."""
    dsn = server.dsn
    await migrate(dsn)
    figures = []
    async with open_world(dsn) as world:
        sizes = [10_000, 100_000] + ([1_000_000] if large else [])
        for size in sizes:
            target = 1.0 if size > 100_000 else 0.3
            seconds = await _reshape(world, size)
            figures.append(_figure(f"reshape of {size:,} vectors of {DIMENSIONS} dimensions", seconds, "s", target))
        figures.append(_figure("consent committed to change applied", await _consent(world), "s", 1.0))
    return figures + await gate_load.run(server)


def _figure(name: str, value: float, unit: str, target: float) -> dict[str, Any]:
    return {"name": name, "value": round(value, 4), "unit": unit, "target": target, "holds": value <= target}


def _config(dimensions: int) -> SpaceConfig:
    return SpaceConfig(
        namespace="default",
        type="mock",
        model="bench",
        requested_dimensions=dimensions,
        dimensions=dimensions,
        preprocessing_version=PREPROCESSING_VERSION,
    )


async def _chunks(world: World, count: int) -> None:
    """Live chunks of one project; their texts are never read here."""
    owner = await world.keys.tenant(world.store, "default")
    project = await world.keys.project(world.store, owner, "bench")
    async with world.store.connection() as conn:
        await conn.execute(
            "insert into memory_entries (canonical_id, version_no, project_id, created_by)"
            " select gen_random_uuid(), 1, $1, 'bench' from generate_series(1, $2::int)",
            project,
            count,
        )
        await conn.execute(
            "insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,"
            " preprocessing_version) select e.id, e.project_id, 0, 'x'::bytea, 'x'::bytea, ''::tsvector, 1, 1"
            " from memory_entries e where not exists (select 1 from memory_chunks c where c.entry_id = e.id)",
        )
        have = (await registry.counted(conn)).get(registry.CHUNKS, 0)
        await registry.count(conn, {registry.CHUNKS: await conn.fetchval("select count(*) from memory_chunks") - have})


async def _space(world: World, owner: Owner, count: int) -> spaces.Space:
    """A space of `count` vectors made of four segments of 64 choices each."""
    await _chunks(world, max(0, count - await world.value("select count(*) from memory_chunks")))
    async with world.store.transaction() as conn:
        declared = providers.DeclaredSpec("Automatic", "vector", None, None)
        await providers.observe(conn, owner.ref, owner.uid, owner.generation, datetime.now(UTC), declared)
    change = reshape.Change(owner, _config(DIMENSIONS), None, BY)
    space = await reshape.create(world.store, change)
    await _fill(world, space, count)
    return space


async def _fill(world: World, space: spaces.Space, count: int) -> None:
    generator = np.random.default_rng(1)
    segments = generator.standard_normal((4, 64, DIMENSIONS // 4)).astype(np.float32)
    ids = [row["id"] for row in await world.fetch("select id from memory_chunks order by id limit $1", count)]
    async with world.store.connection() as conn:
        project = await conn.fetchval("select min(id) from memory_projects")
        for start in range(0, count, 5_000):
            part = ids[start : start + 5_000]
            choice = generator.integers(0, 64, (len(part), 4))
            rows = np.concatenate([segments[s][choice[:, s]] for s in range(4)], axis=1)
            records = [(chunk, project, row) for chunk, row in zip(part, rows, strict=True)]
            await conn.copy_records_to_table(
                vectors.table(space.id), records=records, columns=["chunk_id", "project_id", "embedding"]
            )
        await registry.count(conn, {space.id: count})


async def _reshape(world: World, count: int) -> float:
    """Seconds of the transaction that replaces a full space, consent included."""
    owner = Owner(ProviderRef("default", "bench"), "bench", 1)
    space = await _space(world, owner, count)
    marker = await world.value("insert into memory_embedding_dim_change_consent (target_dim) values (384) returning id")
    await world.fetch("checkpoint") if await world.value("select pg_has_role('pg_checkpoint', 'member')") else None
    started = time.perf_counter()
    discarded = await reshape.reshape(world.store, reshape.Change(owner, _config(384), None, BY), space, marker)
    seconds = time.perf_counter() - started
    assert discarded == count
    async with world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        for left in await spaces.all_spaces(conn):
            await spaces.discard(conn, left)
        await conn.execute("delete from memory_providers")
    return seconds


async def _consent(world: World) -> float:
    """Seconds from the commit of the raw INSERT until the Provider has its new column, the median of five."""
    cluster: Cluster = world.cluster
    await world.fetch("truncate memory_entries cascade")
    await world.fetch("delete from memory_embedding_counters")
    taken = []
    async with world.operator(), world.worker():
        await world.stored(1_000)
        ref = cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}})
        await world.until_phase(ref, "Ready", 60)
        for dimensions in (128, 64, 128, 64, 128):
            cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": dimensions}})
            await world.until_phase(ref, "Held", 60)
            await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values ($1)", dimensions)
            started = time.perf_counter()
            find = "select exists (select 1 from memory_embedding_spaces where dimensions = $1)"
            await until(partial(world.value, find, dimensions), "the change is applied")
            taken.append(time.perf_counter() - started)
            await world.until_phase(ref, "Ready", 60)
    return sorted(taken)[len(taken) // 2]
