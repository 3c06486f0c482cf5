"""How long a query takes on 50,000 chunks, both channels, without the embedder's time; and what the index finds.

The embedder answers at once, in this process, so that nothing has to be subtracted from what is measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from pgvector import Vector

from bench.texts import Writer
from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import Embeddings
from memory_operator.engine.embedding.circuit_breaker import Breaker
from memory_operator.engine.memories.recall import Recall
from memory_operator.memory.encryption import MasterKey, Place
from memory_operator.memory.preprocess import PREPROCESSING_VERSION
from memory_operator.memory.search_terms import indexed
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.migrate import migrate
from memory_operator.store.db.pool import Store, open_store
from memory_operator.store.memories import fulltext, nearest
from memory_operator.store.memories.nearest import Filters
from memory_operator.store.memories.tenants import KeyRing, Tenant
from memory_operator.store.spaces import hnsw, registry, spaces, vectors
from memory_operator.store.spaces.spaces import Owner, Space
from vendor.vectors import Codebook

CHUNKS = 50_000
SMALL_CHUNKS = 5_000
DIMENSIONS = 768
QUERIES = 300
WARM_UP = 50
RECALL_QUERIES = 200

P50_MS, P99_MS, RECALL = 10.0, 30.0, 0.98


async def run(dsn: str) -> list[dict[str, Any]]:
    """Measure on a fresh database. Each figure: name, value, unit, target, holds (None where nothing is promised)."""
    await migrate(dsn)
    async with await open_store(dsn, application="memory-bench") as store:
        stocked = await _stocked(store)
        big = await stocked.latencies("big", stocked.queries(QUERIES + WARM_UP))
        small = await stocked.latencies("small", stocked.queries(QUERIES + WARM_UP))
        found = await stocked.recall(RECALL_QUERIES)
    return [
        _figure("query, 50,000 chunks, p50", statistics.median(big), "ms", P50_MS),
        _figure("query, 50,000 chunks, p99", _percentile(big, 0.99), "ms", P99_MS),
        {
            "name": "query, 50,000 chunks, recall@10 of exact",
            "value": round(found, 4),
            "unit": "",
            "target": RECALL,
            "holds": found >= RECALL,
        },
        _figure("query, project of 5,000 chunks beside it, p50", statistics.median(small), "ms", P50_MS),
        _figure("query, project of 5,000 chunks beside it, p99", _percentile(small, 0.99), "ms", P99_MS),
    ]


@dataclass
class _StockedStore:
    store: Store
    recall_api: Recall
    space: Space
    texts: dict[str, list[str]]
    matrix: np.ndarray
    """Vectors of project `big`, by chunk."""
    chunk_ids: np.ndarray
    book: Codebook
    random: random.Random

    def queries(self, count: int) -> list[str]:
        """Half of them words of one memory, half of them words of two memories that no memory has together."""
        texts = self.texts["big"]

        def some(number: int) -> list[str]:
            return self.random.sample(self.random.choice(texts).split(), number)

        return [" ".join(some(4) if number % 2 else some(4) + some(4)) for number in range(count)]

    async def latencies(self, project: str, queries: Sequence[str]) -> list[float]:
        """Milliseconds of each query but the first ones."""
        taken = []
        for query in queries:
            started = time.perf_counter()
            answer = await self.recall_api.query("bench", project, query)
            taken.append((time.perf_counter() - started) * 1000)
            assert answer.diagnostics.semantic_status == "ok", answer.diagnostics
            assert len(answer.results) == 10
        return taken[WARM_UP:]

    async def recall(self, count: int) -> float:
        """Share of the ten nearest memories that the semantic channel finds among its first ten."""
        shares = []
        async with self.store.connection() as conn:
            project = await conn.fetchval("select id from memory_projects where slug = 'big'")
        for number in range(count):
            query = self.book.vector(f"question {number}")
            async with nearest.bounded(self.store, 10) as conn:
                assert not await nearest.is_small(conn, self.space.id, project)
                hits = await nearest.nearest(
                    conn, self.space, nearest.VectorQuery(project, query, 40, Filters()), exact=False
                )
            exact = set(self.chunk_ids[np.argsort(-(self.matrix @ query))[:10]].tolist())
            shares.append(len(exact & {hit.chunk_id for hit in hits[:10]}) / 10)
        return statistics.fmean(shares)


class AtOnce:
    """A connector and embedder in one, which takes no time."""

    def __init__(self, book: Codebook) -> None:
        self._book = book
        self._breaker = Breaker(time.monotonic)

    def breaker(self, _config: object) -> Breaker:
        return self._breaker

    async def embedder_of(self, _space: Space) -> tuple[AtOnce, bytes | None]:
        return self, None

    async def embed(self, texts: Sequence[str], **_: object) -> Embeddings:
        return Embeddings(np.stack([self._book.vector(text) for text in texts]), None)

    async def worked(self, *_: object) -> None:
        """There is no credential to be proved."""

    def forget(self, _config: object, _error: BaseException) -> None:
        """Nothing is cached."""


async def _stocked(store: Store) -> _StockedStore:
    choose = random.Random(7)
    book = Codebook("bench", DIMENSIONS)
    writer = Writer(choose)
    texts = {"big": writer.texts(CHUNKS), "small": writer.texts(SMALL_CHUNKS)}
    keys = KeyRing(MasterKey(bytes(32)))
    tenant = await keys.tenant(store, "bench")
    space = await make_space(store, DIMENSIONS)
    matrices = {}
    for project, contents in texts.items():
        project_id = await keys.project(store, tenant, project)
        matrices[project] = await _store_all(store, space, tenant, project_id, contents, book)
    await hnsw.build(store, hnsw.Wanted(space.id, space.column_type, space.distance))
    async with store.connection() as conn:
        await conn.execute("vacuum analyze")
    matrix, ids = matrices["big"]
    recall = Recall(store, AtOnce(book), keys)  # type: ignore[arg-type]
    return _StockedStore(store, recall, space, texts, matrix, ids, book, choose)


async def make_space(store: Store, dimensions: int) -> Space:
    """An active space that is ready, and empty."""
    config = SpaceConfig(
        namespace="bench",
        type="mock",
        model="bench",
        requested_dimensions=dimensions,
        dimensions=dimensions,
        preprocessing_version=PREPROCESSING_VERSION,
    )
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        space = await spaces.create(conn, Owner(ProviderRef("bench", "bench"), "uid", 1), config)
        await spaces.set_state(conn, space.id, "ready")
        await spaces.activate(conn, space, "bench")
        found = await spaces.get(conn, space.id)
    assert found is not None
    return found


async def _store_all(
    store: Store, space: Space, tenant: Tenant, project_id: int, texts: Sequence[str], book: Codebook
) -> tuple[np.ndarray, np.ndarray]:
    """Memories of one chunk each, sealed as an add seals them; their vectors, and their chunk ids."""
    makes = random.Random(project_id)
    ids = [UUID(int=makes.getrandbits(128), version=4) for _ in texts]
    matrix = np.stack([book.vector(f"{project_id} {text}") for text in texts])
    async with store.transaction() as conn:
        first = 1 + await conn.fetchval("select coalesce(max(id), 0) from memory_entries")
        await conn.copy_records_to_table(
            "memory_entries",
            columns=["canonical_id", "version_no", "project_id", "created_by", "input"],
            records=[
                (id_, 1, project_id, "bench", tenant.key.seal(text, Place(id_, 1, "input")))
                for id_, text in zip(ids, texts, strict=True)
            ],
        )
        await conn.execute("create temp table texts (entry_id bigint, sealed bytea, plain text) on commit drop")
        await conn.copy_records_to_table(
            "texts",
            records=[
                (first + number, tenant.key.seal(text, Place(ids[number], 1, "chunk")), indexed(text))
                for number, text in enumerate(texts)
            ],
        )
        await conn.execute(
            "insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,"
            " preprocessing_version) select entry_id, $1, 0, sealed, '',"
            " to_tsvector('english', plain) || array_to_tsvector(array[$2]::text[]), 1, 1 from texts order by entry_id",
            project_id,
            fulltext.project_lexeme(project_id),
        )
        rows = await conn.fetch("select id from memory_chunks where project_id = $1 order by entry_id", project_id)
        chunk_ids = np.array([row["id"] for row in rows])
        await conn.copy_records_to_table(
            vectors.table(space.id),
            records=((int(chunk_id), project_id, Vector(row)) for chunk_id, row in zip(chunk_ids, matrix, strict=True)),
        )
        await registry.count(conn, {registry.CHUNKS: len(texts), space.id: len(texts)})
    return matrix, chunk_ids


def _percentile(taken: Sequence[float], share: float) -> float:
    return sorted(taken)[min(len(taken) - 1, int(share * len(taken)))]


def _figure(name: str, value: float, unit: str, most: float) -> dict[str, Any]:
    return {"name": name, "value": round(value, 2), "unit": unit, "target": most, "holds": value <= most}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1])), indent=2))
