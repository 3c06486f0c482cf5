"""Queries and adds over HTTP, end to end: clients that are no Python, an embedder that costs nothing and a slow one.

Beside them the raw statements of the same queries, a raw loop of the same adds, and libraries that store the same texts
with the same vectors on the same server and are asked the same questions.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench import libraries
from bench.figures import Figure, at_least, at_most, told
from bench.http_adds import Adds, found_at_once, raw_adds
from bench.http_load import ask_at_a_rate
from bench.load import serve_api
from bench.measured import Scene, open_scene
from bench.speeds import clients_of, compared, of_library, speed
from bench.stock import PROJECT, TEXTS, Stock
from bench.texts import english, question
from bench.wrk import ABSENT, ADD, Load, Wrk, is_there
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
SECONDS = 10
WARM_UP_SECONDS = 3
CLIENTS = (1, 8, 32)
PROMISED_CLIENTS = 8
QUESTIONS = 1_000
WORDS = 4
RESULTS = 10
RAW = 200
VENDORS = {0: "no cost", 20: "20 ms"}
"""Milliseconds of a call to the embedder, and how figures name it."""
TYPE = "fact"
"""That a fifth of the memories has, and filtered queries ask for."""
ADDS_PER_SECOND = 20
"""Beside queries."""
LIMIT = COUNTED
"""Candidates that each channel is asked for, for RESULTS."""
BOTH, SEMANTIC, FILTERED, BESIDE = "both", "semantic", "filtered", "beside adds"
KINDS: dict[str, dict[str, Any]] = {
    BOTH: {},
    SEMANTIC: {"channels": ["semantic"]},
    FILTERED: {"filters": {"type": TYPE}},
}


LOCAL: dict[str, Any] = {"type": "local", "model": "wordllama", "baseURL": None}
"""A Provider whose model is in the process that asks it, and takes some 30 microseconds for a text."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured."""

    peers: Sequence[str] = ()
    chunks: int = CHUNKS
    seconds: int = SECONDS
    """Of each run."""


async def run(server: RunningPostgres, wanted: Wanted) -> list[Figure]:
    """Figures of an API, with each of VENDORS."""
    if not is_there():
        print(ABSENT, file=sys.stderr)
        return []
    stock, figures = Stock(server, english()), list[Figure]()
    for vendor_ms in VENDORS:
        async with stock.of(wanted.chunks) as dsn, open_scene(dsn, server.pid, latency_ms=vendor_ms) as scene:
            with scene.worker():
                free: dict[str, Any] = {} if vendor_ms else LOCAL
                await scene.serve("served", wanted.chunks, DIMENSIONS, **free)
                figures += await _Part(server, scene, wanted, vendor_ms).figures()
    return figures


@dataclass
class _Part:
    """All that is measured with one vendor."""

    server: RunningPostgres
    scene: Scene
    wanted: Wanted
    vendor_ms: int
    questions: list[str] = field(default_factory=list)
    queries: dict[tuple[str, int], Load] = field(default_factory=dict)
    adds: dict[int, Load] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return VENDORS[self.vendor_ms]

    async def figures(self) -> list[Figure]:
        """First our own, then those of the others, by which ours are divided."""
        self.questions = await questions_of(self.scene)
        port = free_port()
        with serve_api(self.scene, port):
            more = await self._requests(port)
        raw = await raw_query(self.scene, self.questions)
        raws = {n: await raw_adds(self.scene, n, self.wanted.seconds, self.vendor_ms, DIMENSIONS) for n in CLIENTS}
        found = [told(f"{self.name}, raw statements of a query, 1 client: p50", raw, "ms")]
        found += [told(f"{self.name}, raw loop of adds, {clients_of(n)}: adds", raws[n], "1/s") for n in CLIENTS]
        for (kind, clients), load in self.queries.items():
            what = f"{self.name}, {kind}, {clients_of(clients)}"
            found += speed(what, load, "queries")
            found.append(self._of_raw(what, load, raw, kind, clients))
        for clients, load in self.adds.items():
            what = f"{self.name}, adds, {clients_of(clients)}"
            found += speed(what, load, "adds")
            found.append(told(f"{what}: adds, of the raw loop", load.rate / raws[clients]))
        return found + more + await self._beside()

    def _of_raw(self, what: str, load: Load, raw: float, kind: str, clients: int) -> Figure:
        name, ratio = f"{what}: p50, of raw statements", load.p50 / (raw + self.vendor_ms)
        if (self.vendor_ms, kind, clients) == (0, BOTH, 1):
            return at_most(name, ratio, "", 1.5)
        return told(name, ratio)

    async def _requests(self, port: int) -> list[Figure]:
        """Queries of each kind, then adds, then queries beside adds, and whether what is added is found."""
        adds, seconds = Adds(self.scene.folder, port, self.vendor_ms), self.wanted.seconds
        for kind, fields in KINDS.items():
            load = self._wrk(port, fields)
            await asyncio.to_thread(load.ask, max(CLIENTS), WARM_UP_SECONDS)
            for clients in CLIENTS:
                self.queries[kind, clients] = await asyncio.to_thread(load.ask, clients, seconds)
        for clients in CLIENTS:
            self.adds[clients] = await asyncio.to_thread(adds.ask, clients, seconds)
        load = self._wrk(port, {})
        async with _adding(port, adds) as added:
            for clients in CLIENTS:
                self.queries[BESIDE, clients] = await asyncio.to_thread(load.ask, clients, seconds)
        return [
            told(f"{self.name}, {ADDS_PER_SECOND} adds/s beside queries: p50", added.p50, "ms"),
            told(f"{self.name}, {ADDS_PER_SECOND} adds/s beside queries: p99", added.p99, "ms"),
            *(
                told(f"{self.name}, {ADDS_PER_SECOND} adds/s beside queries: {what}", number)
                for what, number in (("refused", added.refused), ("pending", added.incomplete))
            ),
            *await found_at_once(f"{self.name}, adds", port, adds.texts(min(100, 10 * seconds))),
        ]

    def _wrk(self, port: int, fields: dict[str, Any]) -> Wrk:
        bodies = [json.dumps({"query": each, "project": PROJECT, "k": RESULTS, **fields}) for each in self.questions]
        return Wrk(self.scene.folder, port, "busy", bodies)

    async def _beside(self) -> list[Figure]:
        """The peers on the same server, with an embedder that looks vectors up."""
        if not self.wanted.peers:
            return []
        rows = await rows_for(self.scene, self.questions, CLIENTS, self.wanted.seconds)
        tasks = libraries.Tasks(
            (libraries.SEARCH, libraries.FILTERED, libraries.PUT), CLIENTS, self.wanted.seconds, self.vendor_ms, TYPE
        )
        figures = []
        for peer in self.wanted.peers:
            seen = await asyncio.to_thread(libraries.measure, self.server, peer, self.scene.folder, rows, tasks)
            figures += of_library(self.name, peer, seen)
            for (kind, clients), load in self.queries.items():
                theirs = seen[libraries.FILTERED if kind == FILTERED else libraries.SEARCH][clients]
                what = f"{self.name}, {kind}, {clients_of(clients)}"
                figures.append(self._of_peer(what, peer, load.rate / theirs.rate, kind, clients))
            for clients, load in self.adds.items():
                what = f"{self.name}, adds, {clients_of(clients)}"
                figures.append(told(compared(what, "adds", peer), load.rate / seen[libraries.PUT][clients].rate))
        return figures

    def _of_peer(self, what: str, peer: str, ratio: float, kind: str, clients: int) -> Figure:
        name, least = compared(what, "queries", peer), {SEMANTIC: 3.0, BOTH: 2.0}.get(kind)
        if least and (self.vendor_ms, clients, peer) == (0, PROMISED_CLIENTS, "langgraph"):
            return at_least(name, ratio, "", least)
        return told(name, ratio)


@asynccontextmanager
async def _adding(port: int, adds: Adds) -> AsyncIterator[Any]:
    """Adds at a low rate meanwhile; what became of them, once it is over."""
    over = asyncio.Event()
    bodies = ({"text": text, "project": PROJECT} for text in adds.endless())
    task = asyncio.create_task(
        ask_at_a_rate(port, "busy", bodies, ADDS_PER_SECOND, lambda: not over.is_set(), path=ADD), name="adds"
    )
    answers = _Later()
    try:
        yield answers
    finally:
        over.set()
        answers.found = await task


class _Later:
    """Answers that are there at the end."""

    found: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found, name)


async def questions_of(scene: Scene) -> list[str]:
    """Some words of a memory each."""
    choose = random.Random(7)
    texts = [row["text"] for row in await scene.world.fetch(f"select text from {TEXTS} where id % 97 = 0")]
    return [question(choose.choice(texts), choose, WORDS) for _ in range(QUESTIONS)]


async def raw_query(scene: Scene, questions: Sequence[str]) -> float:
    """Milliseconds of the statements of a query alone, one after the other, on one connection: the median."""
    store = scene.world.store
    async with store.connection() as conn:
        space = await spaces.active(conn)
        project = await conn.fetchval("select id from memory_projects where slug = $1", PROJECT)
    assert space is not None
    vectors = await vectors_of(scene, questions[:RAW])
    taken = []
    async with nearest.bounded(store, 30) as conn:
        sizes = Sizes(small=False, matching=None, too_common=await fulltext.too_common(conn))
        for each, vector in zip(questions[:RAW], vectors, strict=True):
            started = time.perf_counter()
            words = await fulltext.fulltext(conn, WordQuery(project, query_terms(each), LIMIT, Filters()), sizes)
            near = await nearest.nearest(conn, space, VectorQuery(project, vector, LIMIT, Filters()), exact=False)
            await memories.found(conn, [hit.chunk_id for hit in [*near, *words][:RESULTS]])
            taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


async def vectors_of(scene: Scene, texts: Sequence[str]) -> np.ndarray:
    """The vectors that the active space has, or would have, for these texts."""
    async with scene.world.store.connection() as conn:
        space = await spaces.active(conn)
    assert space is not None
    embedder, _ = await scene.world.connector.embedder_of(space)
    dimensions = space.config.dimensions
    parts = [
        (await embedder.embed(texts[start : start + 1000], mode="document", timeout=60, dimensions=dimensions)).vectors
        for start in range(0, len(texts), 1000)
    ]
    return np.concatenate(parts)


async def rows_for(
    scene: Scene, questions: Sequence[str], clients: Sequence[int], seconds: int
) -> dict[str, libraries.Rows]:
    """What a library stores, is asked, and is given to store: the same texts and vectors that we have."""
    stored = await scene.world.fetch(f"select text, type from {TEXTS} order by id")
    texts, types = [row["text"] for row in stored], [row["type"] for row in stored]
    new = list(itertools.islice(Adds.of_peers(), libraries.MOST_PUTS_PER_SECOND * seconds * len(clients)))
    return {
        "texts": libraries.Rows(texts, types, await vectors_of(scene, texts)),
        "questions": libraries.Rows(questions, [""] * len(questions), await vectors_of(scene, questions)),
        "new": libraries.Rows(new, [TYPE] * len(new), await vectors_of(scene, new)),
    }
