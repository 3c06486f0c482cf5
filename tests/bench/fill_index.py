"""A fill to its end, its index included, for each kind of index; what the index finds; and a rebuild under it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.figures import Figure, at_least, at_most, told
from bench.measured import DIMENSIONS, FILL_SECONDS, Scene, open_scene
from bench.proc import tree_cpu_seconds
from bench.stock import Stock
from memory_operator.dev.postgres.server import RunningPostgres
from memory_operator.store.jobs import jobs
from memory_operator.store.spaces import hnsw, registry, spaces
from memory_operator.store.spaces.spaces import Space

CHUNKS = 20_000
KINDS = ("hnsw", "hnsw-halfvec", "hnsw-binary")
_SHARE_OF_TODAY = 0.6
_TIMES_OF_A_FILL = 1.3
_RECALL = 0.98
_POLL_SECONDS = 0.1


async def run(server: RunningPostgres, stock: Stock) -> list[Figure]:
    """Figures of each kind of index, one after the other on the same texts, and of a rebuild."""
    figures: list[Figure] = []
    seconds: dict[str, float] = {}
    for kind in KINDS:
        async with stock.of(CHUNKS) as dsn, open_scene(dsn, server.pid, latency_ms=20) as scene:
            with scene.worker():
                before = tree_cpu_seconds(server.pid)
                seconds[kind] = await _filled(scene, kind)
                cpu = tree_cpu_seconds(server.pid) - before
                space = await _space(scene)
                recall = await hnsw.recall(scene.world.store, hnsw.in_use(space)[0])
                size = await scene.world.value("select pg_relation_size(to_regclass($1))", hnsw.in_use(space)[0].name)
                rebuilt = await _rebuilt(scene) if kind == "hnsw" else None
            await stock.end_workers(dsn)
        name = f"fill and index, {kind}"
        figures += [
            told(name, seconds[kind], "s"),
            told(f"{name}: CPU of PostgreSQL", cpu, "s"),
            at_least(f"{name}: recall@10", recall, "", _RECALL),
            told(f"{name}: size of the index", size / 2**20, "MB"),
        ]
        if rebuilt is not None:
            figures.append(told("rebuild under hnsw", rebuilt, "s"))
            figures.append(
                at_most("rebuild under hnsw, of a first fill", rebuilt / seconds[kind], "", _TIMES_OF_A_FILL)
            )
        else:
            share = f"{name}: of that with hnsw", seconds[kind] / seconds["hnsw"], ""
            figures.append(at_most(*share, _SHARE_OF_TODAY) if kind == "hnsw-binary" else told(*share))
    return figures


async def _filled(scene: Scene, kind: str) -> float:
    """Seconds from a Provider to the space that is ready, with the index in use."""
    started = time.monotonic()
    embedding = {"dimensions": DIMENSIONS, "index": kind}
    spec = {"type": "openai_compatible", "model": "bench", "baseURL": scene.vendor.base_url, "embedding": embedding}
    scene.world.cluster.apply("bench", spec)

    async def is_ready() -> bool:
        found: bool = await scene.world.value(
            "select exists (select from memory_embedding_spaces where state = 'ready' and index_in_use is not null)"
        )
        return found

    await _until(is_ready)
    return time.monotonic() - started


async def _rebuilt(scene: Scene) -> float:
    """Seconds of a rebuild of the whole space."""
    started = time.monotonic()
    async with scene.world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        job_id = await jobs.start(conn, (await spaces.all_spaces(conn))[0].id, kind="reembed", replace=True)
    is_done = "select state = 'done' from memory_reembed_jobs where id = $1"
    await _until(lambda: scene.world.value(is_done, job_id))
    return time.monotonic() - started


async def _space(scene: Scene) -> Space:
    async with scene.world.store.connection() as conn:
        return (await spaces.all_spaces(conn))[0]


async def _until(check: Callable[[], Awaitable[Any]]) -> None:
    deadline = time.monotonic() + FILL_SECONDS
    while not await check():
        assert time.monotonic() < deadline, f"not within {FILL_SECONDS:g} s"
        await asyncio.sleep(_POLL_SECONDS)
