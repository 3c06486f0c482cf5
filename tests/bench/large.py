"""A million chunks beside fifty thousand: what a query costs, and what the index finds of what is nearest.

Both are stocked by COPY, once, in a server of their own whose folder is kept: building takes far longer than asking.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench import stock, texts
from bench.figures import Figure, at_least, at_most, told
from bench.http_load import Connection
from bench.http_query import LOCAL, questions_of, vectors_of
from bench.load import serve_api
from bench.measured import Scene, open_scene
from bench.speeds import clients_of, speed
from bench.stock import PROJECT, Stock
from bench.wrk import ABSENT, QUERY, Load, Wrk, is_there
from fixtures.dev import free_port
from memory_operator.dev.postgres.server import RunningPostgres
from memory_operator.store.db.migrate import migrate
from memory_operator.store.memories import nearest
from memory_operator.store.memories.nearest import Filters, VectorQuery
from memory_operator.store.spaces import spaces

SETTINGS = {"maintenance_work_mem": "5GB"}
"""Beside those of all parts: the graph of a million vectors has to fit."""
CHUNKS = 1_000_000
SMALL_CHUNKS = 50_000
DIMENSIONS = 256
CLIENTS = (1, 8)
QUESTIONS = 500
WORDS = 4
RESULTS = 10
WARM_UP_SECONDS = 10
RECALL_QUESTIONS = 100
EXACT_SECONDS = 120
TIMES, RECALL = 2.0, 0.98
SEMANTIC = {"channels": ["semantic"]}
_COMPLETE = "bench_complete"


def kept_folder(parent: Path) -> Path:
    """Where the server of this release's stock is kept."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (stock, texts))
    return parent / f"large-{hashlib.sha256(sources).hexdigest()[:8]}"


async def run(server: RunningPostgres, seconds: int, chunks: int = CHUNKS) -> list[Figure]:
    """Figures of queries on both, and of the large one as a multiple of the small one."""
    if not is_there():
        print(ABSENT, file=sys.stderr)
        return []
    small = await _measured(server, min(SMALL_CHUNKS, chunks // 2), seconds)
    large = await _measured(server, chunks, seconds)
    figures = [*small.figures, *large.figures]
    for kind, clients in large.loads:
        ratio = large.loads[kind, clients].p50 / small.loads[kind, clients].p50
        name = f"{chunks:,} chunks, {kind}, {clients_of(clients)}: p50, of that at {small.chunks:,}"
        figures.append(at_most(name, ratio, "", TIMES) if clients == 1 else told(name, ratio))
    size = sum(each.stat().st_size for each in server.folder.rglob("*") if each.is_file())
    print(f"the stores are kept in {server.folder} ({size / 1e9:.1f} GB)", file=sys.stderr)
    return figures


class _Measured:
    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.figures: list[Figure] = []
        self.loads: dict[tuple[str, int], Load] = {}


async def _measured(server: RunningPostgres, chunks: int, seconds: int) -> _Measured:
    found, name = _Measured(chunks), f"{chunks:,} chunks"
    dsn, complete = await _stocked(server, chunks)
    async with open_scene(dsn, server.pid, lambda scene: scene.apply("served", DIMENSIONS, **LOCAL)) as scene:
        if not complete:
            found.figures += await _filled(scene, chunks, name)
        await scene.until_answering("served")
        port = free_port()
        with serve_api(scene, port):
            kinds = await _kinds(scene)
            await asyncio.to_thread(_wrk(scene, port, *kinds["words of a memory"]).ask, max(CLIENTS), WARM_UP_SECONDS)
            for kind, given in kinds.items():
                for clients in CLIENTS:
                    load = await asyncio.to_thread(_wrk(scene, port, *given).ask, clients, seconds)
                    found.loads[kind, clients] = load
                    found.figures += speed(f"{name}, {kind}, {clients_of(clients)}", load, "queries")
            recall = await _recall(scene, port, kinds["words of a memory"][0][:RECALL_QUESTIONS])
            found.figures.append(at_least(f"{name}: recall@10 of exact", recall, "", RECALL))
    return found


async def _stocked(server: RunningPostgres, chunks: int) -> tuple[str, bool]:
    """URL of a database with so many chunks, and whether its vectors and their index are there already."""
    name = f"large_{chunks}"
    url = urlunsplit(urlsplit(server.dsn)._replace(path=f"/{name}"))
    administrator = await asyncpg.connect(server.administrator_dsn)
    try:
        if await administrator.fetchval("select exists (select from pg_database where datname = $1)", name):
            conn = await asyncpg.connect(url)
            complete = await conn.fetchval("select to_regclass($1) is not null", _COMPLETE)
            await conn.close()
            if complete:
                await migrate(url)
                return url, True
            await administrator.execute(f"drop database {name} with (force)")
    finally:
        await administrator.close()
    print(f"stocking {chunks:,} chunks …", file=sys.stderr)
    await Stock(server, texts.english()).make(name, chunks)
    return url, False


async def _filled(scene: Scene, chunks: int, name: str) -> list[Figure]:
    started = time.perf_counter()
    with scene.worker():
        await scene.serve("served", chunks, DIMENSIONS, **LOCAL)
        seconds = time.perf_counter() - started
    conn = await asyncpg.connect(scene.world.dsn)
    await conn.execute("vacuum analyze")
    await conn.execute(f"create table {_COMPLETE} ()")
    await conn.close()
    return [told(f"{name}: fill and index", seconds, "s")]


async def _kinds(scene: Scene) -> dict[str, tuple[Sequence[str], dict[str, Any]]]:
    """Questions of each kind, and what else is said with them."""
    usual = (await questions_of(scene))[:QUESTIONS]
    common = texts.common_questions(random.Random(5), QUESTIONS, WORDS)
    return {"words of a memory": (usual, {}), "common words": (common, {}), "semantic": (usual, SEMANTIC)}


def _wrk(scene: Scene, port: int, questions: Sequence[str], fields: dict[str, Any]) -> Wrk:
    bodies = [json.dumps({"query": each, "project": PROJECT, "k": RESULTS, **fields}) for each in questions]
    return Wrk(scene.folder, port, "busy", bodies)


async def _recall(scene: Scene, port: int, questions: Sequence[str]) -> float:
    """Share of the memories whose vectors are nearest that the semantic channel answers with."""
    vectors, connection, shares = await vectors_of(scene, questions), Connection(port, "busy"), []
    async with scene.world.store.connection() as conn:
        space = await spaces.active(conn)
        project = await conn.fetchval("select id from memory_projects where slug = $1", PROJECT)
    assert space is not None
    for question, vector in zip(questions, vectors, strict=True):
        wanted = VectorQuery(project, vector, RESULTS, Filters())
        async with nearest.bounded(scene.world.store, EXACT_SECONDS) as conn:
            hits = await nearest.nearest(conn, space, wanted, exact=True)
            exact = await conn.fetch(
                "select e.canonical_id from memory_chunks c join memory_entries e on e.id = c.entry_id"
                " where c.id = any($1::bigint[])",
                [hit.chunk_id for hit in hits],
            )
        body = {"query": question, "project": PROJECT, "k": RESULTS, "fold": False, **SEMANTIC}
        status, answer = await connection.ask("POST", QUERY, body)
        assert status == 200, answer
        found = {result["id"] for result in json.loads(answer)["results"]}
        shares.append(len(found & {str(row["canonical_id"]) for row in exact}) / len(exact))
    connection.close()
    return statistics.fmean(shares)
