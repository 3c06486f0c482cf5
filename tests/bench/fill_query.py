"""Queries while a fill runs at full speed: through the API's process, at a fixed rate, against what they take idle."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from bench.figures import Figure, at_most, exactly, told
from bench.measured import Scene, open_scene
from bench.proc import OwnProcess
from bench.stock import PROJECT, TEXTS, Stock
from fixtures.dev import free_port
from memory_operator.dev.postgres.server import RunningPostgres
from vendor.stub import VendorProcess

CHUNKS = 100_000
SERVED_DIMENSIONS = 64
"""Of the space that is queried: its index is built in seconds."""
RATE_PER_SECOND = 10
"""Far below what the API can answer: near that a fill would only show how a full queue grows."""
IDLE_SECONDS = 12.0
WARM_UP_SECONDS = 2.0
TIMES = 3.0


@dataclass(slots=True)
class RecordedRequest:
    """What became of queries."""

    taken: list[float] = field(default_factory=list)
    """Milliseconds of each, from the moment it was due."""
    lame: int = 0
    """Refused, or answered without what meaning finds."""


async def run(server: RunningPostgres, stock: Stock) -> list[Figure]:
    """p99 of /memory/query idle, and while another Provider's space is filled."""
    port = free_port()
    async with stock.of(CHUNKS) as dsn, open_scene(dsn, server.pid, latency_ms=20) as scene:
        with VendorProcess(SERVED_DIMENSIONS, fast=True) as served, scene.worker() as worker:
            await scene.serve("served", CHUNKS, SERVED_DIMENSIONS, baseURL=served.base_url)
            with _api(scene, port):
                queries = await _queries(scene)
                await _query_for(port, queries, seconds=WARM_UP_SECONDS)
                idle = await _query_for(port, queries, seconds=IDLE_SECONDS)
                filling = asyncio.create_task(scene.fill(worker, "bench", CHUNKS), name="fill")
                await scene.until_filled("bench", CHUNKS, share=0.02)
                busy = await _query_for(port, queries, until=filling)
                filled = await filling
    assert not idle.lame, "queries fail before anything is filled"
    idle_p99, busy_p99 = (float(np.percentile(queried.taken, 99)) for queried in (idle, busy))
    figures = [
        told(f"query, {CHUNKS:,} chunks, over HTTP, idle: p50", float(np.median(idle.taken)), "ms"),
        told(f"query, {CHUNKS:,} chunks, over HTTP, idle: p99", idle_p99, "ms"),
        told("the same while a fill runs: p50", float(np.median(busy.taken)), "ms"),
        told("the same while a fill runs: p99", busy_p99, "ms"),
        at_most("the same while a fill runs: p99, of the idle one", busy_p99 / idle_p99, "", TIMES),
        told("the same while a fill runs: queries", len(busy.taken)),
        exactly("the same while a fill runs: refused, or without semantic results", busy.lame, "", 0),
        told("the fill meanwhile: active", filled.rate, "rows/s"),
    ]
    if filled.loop_lag_seconds is not None:
        figures.append(at_most("the fill meanwhile: worst lag of its loop", filled.loop_lag_seconds, "s", 0.1))
    return figures


def _api(scene: Scene, port: int) -> OwnProcess:
    words = ("api", "--host", "127.0.0.1", "--port", str(port), "--auth-mode", "none", "--namespaces", "default")
    return OwnProcess(scene.folder, scene.world.dsn, *words)


async def _queries(scene: Scene) -> Iterator[str]:
    """Four words of a memory each, without end."""
    choose = random.Random(7)
    texts = [row["text"] for row in await scene.world.fetch(f"select text from {TEXTS} where id % 97 = 0")]
    return (" ".join(choose.sample(choose.choice(texts).split(), 4)) for _ in itertools.count())


async def _query_for(
    port: int, queries: Iterator[str], *, seconds: float = 600.0, until: asyncio.Task[Any] | None = None
) -> RecordedRequest:
    """Ask at a fixed rate, whether or not the queries before were answered."""
    queried = RecordedRequest()
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        start = time.perf_counter()
        for number in range(int(seconds * RATE_PER_SECOND)):
            due = start + number / RATE_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if until is not None and until.done():
                break
            group.create_task(_one(client, next(queries), due, queried), name=f"query {number}")
    return queried


async def _one(client: httpx.AsyncClient, query: str, due: float, queried: RecordedRequest) -> None:
    body = {"query": query, "project": PROJECT, "k": 10}
    answer = await client.post("/memory/query", json=body)
    whole = answer.status_code == 200 and answer.json()["diagnostics"]["semantic_status"] == "ok"
    queried.taken.append(1000 * (time.perf_counter() - due))
    queried.lame += not whole
