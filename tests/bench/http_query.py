"""Queries over HTTP, end to end: clients that are no Python, an embedder that costs nothing and one that takes 20 ms.

Beside them the raw statements of the same queries, and a peer with the same texts, vectors and questions.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench import langgraph
from bench.figures import Figure, at_least, at_most, exactly, told
from bench.load import serve_api
from bench.measured import Scene, open_scene
from bench.stock import PROJECT, TEXTS, Stock
from bench.wrk import Load, Wrk, is_there
from fixtures.dev import free_port
from memory_operator.dev.postgres.server import RunningPostgres
from memory_operator.memory.fusion import COUNTED
from memory_operator.memory.search_terms import query_terms
from memory_operator.store.memories import fulltext, memories, nearest
from memory_operator.store.memories.fulltext import Sizes, WordQuery
from memory_operator.store.memories.nearest import Filters, VectorQuery
from memory_operator.store.spaces import spaces

CHUNKS = 50_000
DIMENSIONS = 256
SECONDS = 10.0
WARM_UP_SECONDS = 3.0
CLIENTS = (1, 8, 32)
PROMISED_CLIENTS = 8
QUESTIONS = 1_000
WORDS = 4
RESULTS = 10
RAW = 200
VENDOR_MS = 20
LIMIT = COUNTED
"""Candidates that each channel is asked for, for RESULTS."""


async def run(server: RunningPostgres, peer: str | None, chunks: int = CHUNKS) -> list[Figure]:
    """Figures of queries over HTTP."""
    if not is_there():
        print("wrk is not installed, and it is what asks here: apt-get install wrk", file=sys.stderr)
        return []
    stock, figures = Stock(server), list[Figure]()
    async with stock.of(chunks) as dsn, open_scene(dsn, server.pid, latency_ms=0) as scene:
        with scene.worker():
            await scene.serve("free", chunks, DIMENSIONS, type="mock", baseURL=None)
        questions = await _questions(scene)
        ours = await _served(scene, questions, "free embedder", semantic=True)
        figures += ours.figures
        figures += await _raw(scene, questions, ours.loads["both", 1])
        if peer == langgraph.NAME:
            figures += await _beside(server, scene, questions, ours.loads)
    async with stock.of(chunks) as dsn, open_scene(dsn, server.pid, latency_ms=VENDOR_MS) as scene:
        with scene.worker():
            await scene.serve("slow", chunks, DIMENSIONS)
        slow = await _served(scene, questions, f"vendor of {VENDOR_MS} ms", semantic=False)
        figures += slow.figures
    return figures


def _clients(number: int) -> str:
    return f"{number} client{'s' if number > 1 else ''}"


class _Served:
    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.loads: dict[tuple[str, int], Load] = {}


async def _questions(scene: Scene) -> list[str]:
    """Some words of a memory each."""
    choose = random.Random(7)
    texts = [row["text"] for row in await scene.world.fetch(f"select text from {TEXTS} where id % 97 = 0")]
    return [" ".join(choose.sample(choose.choice(texts).split(), WORDS)) for _ in range(QUESTIONS)]


async def _served(scene: Scene, questions: Sequence[str], name: str, *, semantic: bool) -> _Served:
    found, port = _Served(), free_port()
    kinds: dict[str, dict[str, Any]] = {"both": {}}
    if semantic:
        kinds["semantic alone"] = {"channels": ["semantic"]}
    with serve_api(scene, port):
        for kind, fields in kinds.items():
            bodies = [json.dumps({"query": each, "project": PROJECT, "k": RESULTS, **fields}) for each in questions]
            load = Wrk(scene.folder, port, "busy", bodies)
            await asyncio.to_thread(load.ask, max(CLIENTS), WARM_UP_SECONDS)
            for clients in CLIENTS:
                seen = await asyncio.to_thread(load.ask, clients, SECONDS)
                found.loads[kind, clients] = seen
                what = f"{name}, {kind}, {_clients(clients)}"
                found.figures += [
                    told(f"{what}: queries", seen.rate, "1/s"),
                    told(f"{what}: p50", seen.p50, "ms"),
                    told(f"{what}: p99", seen.p99, "ms"),
                    exactly(f"{what}: refused", seen.refused, "", 0),
                    exactly(f"{what}: incomplete", seen.incomplete, "", 0),
                ]
    return found


async def _raw(scene: Scene, questions: Sequence[str], one: Load) -> list[Figure]:
    """The statements of a query alone, one after the other, on one connection."""
    store = scene.world.store
    async with store.connection() as conn:
        space = await spaces.active(conn)
        project = await conn.fetchval("select id from memory_projects where slug = $1", PROJECT)
    assert space is not None
    vectors = await _vectors(scene, questions[:RAW])
    taken = []
    async with nearest.bounded(store, 30) as conn:
        for question, vector in zip(questions[:RAW], vectors, strict=True):
            started = time.perf_counter()
            words = await fulltext.fulltext(
                conn, WordQuery(project, query_terms(question), LIMIT, Filters()), Sizes(small=False, matching=None)
            )
            near = await nearest.nearest(conn, space, VectorQuery(project, vector, LIMIT, Filters()), exact=False)
            await memories.found(conn, [hit.chunk_id for hit in [*near, *words][:RESULTS]])
            taken.append(1000 * (time.perf_counter() - started))
    raw = statistics.median(taken)
    return [
        told("raw statements of a query, one client: p50", raw, "ms"),
        at_most("free embedder, both, 1 client: p50, of its raw statements", one.p50 / raw, "", 1.5),
    ]


async def _vectors(scene: Scene, texts: Sequence[str]) -> np.ndarray:
    async with scene.world.store.connection() as conn:
        space = await spaces.active(conn)
    assert space is not None
    embedder, _ = await scene.world.connector.embedder_of(space)
    parts = [
        (await embedder.embed(texts[start : start + 1000], mode="document", timeout=60, dimensions=DIMENSIONS)).vectors
        for start in range(0, len(texts), 1000)
    ]
    return np.concatenate(parts)


async def _beside(
    server: RunningPostgres, scene: Scene, questions: Sequence[str], ours: Mapping[tuple[str, int], Load]
) -> list[Figure]:
    """The peer on the same server: same texts, same vectors, same questions, an embedder that looks them up."""
    texts = [row["text"] for row in await scene.world.fetch(f"select text from {TEXTS} order by id")]
    stocked = langgraph.Stocked(scene.folder, texts, await _vectors(scene, texts))
    stocked.ask_for(questions, await _vectors(scene, questions))
    theirs = await asyncio.to_thread(stocked.search, server, CLIENTS, SECONDS)
    figures = []
    for clients in CLIENTS:
        peer = theirs[clients]
        figures.append(told(f"LangGraph, {_clients(clients)}: searches", peer["rate"], "1/s"))
        figures.append(told(f"LangGraph, {_clients(clients)}: p50", peer["p50"], "ms"))
        for kind, least in (("semantic alone", 3.0), ("both", 2.0)):
            name = f"{kind}, {_clients(clients)}: queries, of LangGraph's searches"
            ratio = ours[kind, clients].rate / peer["rate"]
            figures.append(at_least(name, ratio, "", least) if clients == PROMISED_CLIENTS else told(name, ratio))
    return figures
