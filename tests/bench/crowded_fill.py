"""200 spaces that are filled at once: connections, turns, vendors that never answer, and queries meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bench.figures import Figure, at_most, exactly, told
from bench.http_load import Answers, ask_at_a_rate, for_seconds
from bench.measured import Scene, open_scene
from bench.proc import OwnProcess
from bench.stock import PROJECT, Stock
from fixtures.dev import free_port
from fixtures.waiting import until
from memory_operator.dev.postgres.server import RunningPostgres
from vendor.stub import VendorProcess

SPACES = 200
SILENT = 10
"""Of them, those whose vendor takes every call and never answers."""
CHUNKS = 200
DIMENSIONS = 64
RATE_PER_SECOND = 5
IDLE_SECONDS = 12.0
FILL_SECONDS = 1_200.0
WORKER_CONNECTIONS = 8 + 12 + 5
"""The pool, a writer for each of twelve fills, and: presence, heartbeat, notifications, an index, one in exchange."""
TIMES = 3.0

_CONNECTIONS = """
select count(*) filter (where application_name in ('memory-worker', 'memory-heartbeat', 'memory-worker-listen')
  or application_name ~ '^memory-(presence|index)') as worker, count(*) as all
from pg_stat_activity where datname = current_database() and application_name <> 'memory-test'
"""
_FILLED = """provider_name like 'space-%'"""
_ALL_READY = f"""select bool_and(state = 'ready') from memory_embedding_spaces where {_FILLED}"""
_MOMENTS = f"""
select id, extract(epoch from state_changed_at)::float8 as at from memory_embedding_spaces where {_FILLED}
"""


async def run(server: RunningPostgres) -> list[Figure]:
    """Fill all of them, the silent ones first in the queue."""
    stock, port = Stock(server), free_port()
    async with stock.of(CHUNKS) as dsn, open_scene(dsn, server.pid, latency_ms=20) as scene:
        with scene.worker():
            await scene.serve("served", CHUNKS, DIMENSIONS)
        with VendorProcess(DIMENSIONS, fast=True) as silent, _api(scene, port):
            idle = await ask_at_a_rate(port, "", _queries(), RATE_PER_SECOND, for_seconds(IDLE_SECONDS))
            for number in range(SILENT):
                scene.apply(f"silent-{number}", DIMENSIONS, baseURL=silent.base_url)
            await _until_there(scene, 1 + SILENT)
            silent.set(hang_every=1)
            for number in range(SPACES - SILENT):
                scene.apply(f"space-{number}", DIMENSIONS)
            await _until_there(scene, 1 + SPACES)
            with scene.worker():
                return await _filled(scene, port, idle)


def _api(scene: Scene, port: int) -> OwnProcess:
    words = ("api", "--host", "127.0.0.1", "--port", str(port), "--auth-mode", "none", "--namespaces", "default")
    return OwnProcess(scene.folder, scene.world.dsn, *words)


def _queries() -> Iterator[Mapping[str, Any]]:
    return ({"query": f"what number {number} was about", "project": PROJECT, "k": 10} for number in itertools.count())


async def _until_there(scene: Scene, count: int) -> None:
    there = "select count(*) = $1 from memory_embedding_spaces"
    await until(lambda: scene.world.value(there, count), f"there are {count} spaces", FILL_SECONDS)


async def _filled(scene: Scene, port: int, idle: Answers) -> list[Figure]:
    world, began = scene.world, time.time()
    filled = False
    queries = ask_at_a_rate(port, "", _queries(), RATE_PER_SECOND, lambda: not filled)
    querying = asyncio.create_task(queries, name="queries")
    most, most_of_all = 0, 0

    async def all_but_the_silent_ones_are_ready() -> bool:
        nonlocal most, most_of_all
        [row] = await world.fetch(_CONNECTIONS)
        most, most_of_all = max(most, row["worker"]), max(most_of_all, row["all"])
        return bool(await world.value(_ALL_READY))

    await until(all_but_the_silent_ones_are_ready, "all but the silent ones are ready", FILL_SECONDS)
    filled = True
    busy = await querying
    first, ready = await _moments(scene, began)
    name, others = f"{SPACES} spaces filled at once", SPACES - SILENT
    return [
        at_most(f"{name}: connections of the worker", most, "", WORKER_CONNECTIONS),
        told(f"{name}: connections of all", most_of_all),
        told(f"{name}: first vectors of a space, median", float(np.median(first)), "s"),
        told(f"{name}: first vectors of a space, last", max(first), "s"),
        told(f"{name}: {others} ready, {SILENT} whose vendor never answers beside them", max(ready), "s"),
        told(f"{name}: vectors", others * CHUNKS / max(ready), "rows/s"),
        told(f"{name}: longest time without a space that gets ready", max(np.diff([0.0, *sorted(ready)])), "s"),
        told(f"{name}: queries before, p50", idle.p50, "ms"),
        told(f"{name}: queries before, p99", idle.p99, "ms"),
        told(f"{name}: queries meanwhile, p50", busy.p50, "ms"),
        told(f"{name}: queries meanwhile, p99", busy.p99, "ms"),
        at_most(f"{name}: queries meanwhile, p99, of that before", busy.p99 / idle.p99, "", TIMES),
        exactly(f"{name}: queries meanwhile, refused", busy.refused, "", 0),
        exactly(f"{name}: queries meanwhile, incomplete", busy.incomplete, "", 0),
    ]


async def _moments(scene: Scene, began: float) -> tuple[list[float], list[float]]:
    """Seconds until the first vectors of each space that is not silent, and until it was ready."""
    first, ready = [], []
    for row in await scene.world.fetch(_MOMENTS):
        ready.append(row["at"] - began)
        earliest = await scene.world.value(
            "select extract(epoch from min(pg_xact_commit_timestamp(x)))::float8"
            f" from (select distinct xmin as x from memory_vectors_{row['id']}) stored"
        )
        first.append(earliest - began)
    return first, ready
