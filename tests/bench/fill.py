"""What a fill takes: from the first call to the last commit, and with its index."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from fixtures.engine import World, open_world, until
from memory_operator.memory.encrypt import Place
from memory_operator.store import registry
from memory_operator.store.migrate import migrate
from vendor.stub import VendorProcess

CHUNKS = 20_000
DIMENSIONS = 768


async def run(dsn: str, large: bool) -> list[dict[str, Any]]:
    """Figures of one fill of 20,000 chunks of about 120 characters, 20 ms a call."""
    await migrate(dsn)
    count = 1_000_000 if large else CHUNKS
    with VendorProcess(dimensions=DIMENSIONS, latency_ms=20) as vendor:
        async with open_world(dsn) as world:
            await _store(world, count)
            spec = {"type": "openai_compatible", "model": "bench", "baseURL": vendor.base_url}
            async with world.operator(), world.worker():
                started = time.perf_counter()
                world.cluster.apply("bench", {**spec, "embedding": {"dimensions": DIMENSIONS}})
                await until(lambda: _filled(world, count), seconds=7_200)
                filled = time.perf_counter() - started
                await until(lambda: _ready(world), seconds=7_200)
                ready = time.perf_counter() - started
            active = await world.value(
                "select extract(epoch from max(finished_at) - min(first_call_at))::float8 from memory_reembed_jobs"
            )
    return [
        _figure(f"fill of {count:,} chunks, one process, base64, 20 ms a call", count / filled, "rows/s"),
        _figure(f"fill and index of {count:,} chunks", ready, "s"),
        _figure("of that, from the first call until it was ready", active, "s"),
    ]


def _figure(name: str, value: float, unit: str) -> dict[str, Any]:
    """A figure that no promise is made about yet."""
    return {"name": name, "value": round(value, 3), "unit": unit, "target": None, "holds": None}


async def _filled(world: World, count: int) -> bool:
    return bool(await world.value("select sum(done) >= $1 from memory_reembed_jobs", count))


async def _ready(world: World) -> bool:
    return bool(await world.value("select bool_and(state = 'ready') from memory_embedding_spaces"))


async def _store(world: World, count: int) -> None:
    """Memories of one chunk of about 120 characters each, none of them embedded."""
    owner = await world.keys.tenant(world.store, "default")
    project = await world.keys.project(world.store, owner, "bench")
    for start in range(0, count, 5_000):
        rows = []
        for number in range(start, min(start + 5_000, count)):
            text = f"memory number {number} of a bench, as long as a sentence that an agent writes down {uuid4()}"
            canonical = uuid4()
            sealed = owner.key.seal(text, Place(canonical, 1, "chunk", 0))
            rows.append((canonical, sealed, owner.key.content_hash(text), text))
        async with world.store.transaction() as conn:
            await registry.hold_for_write(conn)
            await conn.executemany(
                "with entry as (insert into memory_entries (canonical_id, version_no, project_id, created_by)"
                f" values ($1, 1, {project}, 'bench') returning id)"
                " insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv,"
                f" chunker_version, preprocessing_version) select id, {project}, 0, $2, $3,"
                " to_tsvector('english', $4), 1, 1 from entry",
                rows,
            )
            await registry.count(conn, {registry.CHUNKS: len(rows)})
