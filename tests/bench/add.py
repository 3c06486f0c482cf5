"""Adds into a space whose index is ready: how many, beside libraries; then for long, with queries and a kill beside."""

from __future__ import annotations

import asyncio
import sys

from bench import libraries, soak
from bench.figures import Figure, at_least, told
from bench.http_adds import Adds, found_at_once, raw_adds
from bench.http_query import TYPE, Wanted, questions_of, rows_for
from bench.load import serve_api
from bench.measured import DIMENSIONS, Scene, open_scene
from bench.speeds import clients_of, compared, of_library, speed
from bench.stock import Stock
from bench.texts import english
from bench.wrk import ABSENT, Load, is_there
from fixtures.dev import free_port
from memory_operator.dev.postgres.server import RunningPostgres

VENDOR_MS = 20
CLIENTS = (1, 32)
PROMISED_CLIENTS = 32
TIMES_LANGGRAPH = 3.0
FOUND = 100
SOAK_SECONDS = 20


async def run(server: RunningPostgres, wanted: Wanted, soak_seconds: int = SOAK_SECONDS) -> list[Figure]:
    """Figures of adds."""
    if not is_there():
        print(ABSENT, file=sys.stderr)
        return []
    stock, figures = Stock(server, english()), list[Figure]()
    async with stock.of(wanted.chunks) as dsn, open_scene(dsn, server.pid, latency_ms=VENDOR_MS) as scene:
        with scene.worker():
            await scene.serve("served", wanted.chunks)
            port = free_port()
            api = serve_api(scene, port)
            adds = Adds(scene.folder, port, 1)
            with api:
                await asyncio.to_thread(adds.ask, max(CLIENTS), 2)
                loads = {n: await asyncio.to_thread(adds.ask, n, wanted.seconds) for n in CLIENTS}
                figures += await found_at_once("adds", port, adds.texts(FOUND))
                if soak_seconds:
                    half = loads[PROMISED_CLIENTS].rate / 2
                    figures += await soak.run(scene, api, port, half, soak_seconds)
            for clients, load in loads.items():
                figures += await _rates(scene, wanted, clients, load)
            figures += await _beside(server, scene, wanted, loads)
    return figures


async def _rates(scene: Scene, wanted: Wanted, clients: int, load: Load) -> list[Figure]:
    raw = await raw_adds(scene, clients, wanted.seconds, VENDOR_MS, DIMENSIONS)
    what = _name(wanted, clients)
    return [
        *speed(what, load, "adds"),
        told(f"raw loop of adds, {clients_of(clients)}: adds", raw, "1/s"),
        told(f"{what}: adds, of the raw loop", load.rate / raw),
    ]


def _name(wanted: Wanted, clients: int) -> str:
    return f"adds into {wanted.chunks:,} × {DIMENSIONS}, {clients_of(clients)}"


async def _beside(server: RunningPostgres, scene: Scene, wanted: Wanted, loads: dict[int, Load]) -> list[Figure]:
    if not wanted.peers:
        return []
    rows = await rows_for(scene, (await questions_of(scene))[:1], CLIENTS, wanted.seconds)
    tasks = libraries.Tasks((libraries.PUT,), CLIENTS, wanted.seconds, VENDOR_MS, TYPE)
    figures = []
    for peer in wanted.peers:
        seen = await asyncio.to_thread(libraries.measure, server, peer, scene.folder, rows, tasks)
        figures += of_library(f"into {wanted.chunks:,} × {DIMENSIONS}", peer, seen)
        for clients, load in loads.items():
            ratio = load.rate / seen[libraries.PUT][clients].rate
            name = compared(_name(wanted, clients), "adds", peer)
            promised = (clients, peer) == (PROMISED_CLIENTS, "langgraph")
            figures.append(at_least(name, ratio, "", TIMES_LANGGRAPH) if promised else told(name, ratio))
    return figures
