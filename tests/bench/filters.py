"""What a filter costs: queries with one beside those without, in one project, among 200,000 chunks of many tenants.

Vectors as models make them: topics of uneven size, chunks scattered around them, and a spectrum that falls, so that
a few directions carry most of the variance; every tenant writes about every topic. Asked in turns with the unfiltered
query, so that what else the machine does falls on both.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

from bench.figures import Figure, at_least, at_most, told
from bench.query import DIMENSIONS as QUERY_DIMENSIONS
from bench.query import AtOnce, make_space
from bench.texts import Writer
from memory_operator.engine.memories.recall import Recall
from memory_operator.memory.encryption import MasterKey, Place
from memory_operator.memory.search_terms import indexed
from memory_operator.store.db.migrate import migrate
from memory_operator.store.db.pool import Conn, Store, open_store
from memory_operator.store.memories import fulltext, nearest
from memory_operator.store.memories.nearest import Filters
from memory_operator.store.memories.tenants import KeyRing, Tenant
from memory_operator.store.spaces import hnsw, registry, vectors
from memory_operator.store.spaces.spaces import Space

DIMENSIONS = QUERY_DIMENSIONS // 2
PROJECTS = {"even": 40_000, "most": 40_000, "nearly all": 40_000, "little": 5_000}
"""Chunks of the projects that are asked; what a type is shared by differs between them."""
OTHERS, CHUNKS_OF_OTHERS = 15, 5_000
PARTS = 20
SHARES = {
    "even": (0.001, 0.01, 0.05, 0.2, 0.5),
    "most": (0.85,),
    "nearly all": (0.95,),
    "little": (0.001, 0.01, 0.05, 0.2, 0.5),
}
KINDS = ("type", "source", "time", "tags")
QUERIES = 40
RECALL_QUERIES = 10
CANDIDATES = 40
MOST_TIMES, RECALL = 2.0, 0.95

TOPICS = 500
_COLUMNS = (
    *("canonical_id", "version_no", "project_id", "created_by", "input"),
    *("type", "source", "tags", "created_at"),
)
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Topics:
    """Makes vectors of length 1 around topics, which are always the same ones; the vectors are others for each seed."""

    def __init__(self, dimensions: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._spectrum = np.arange(1, dimensions + 1) ** -0.4
        self._centres = np.random.default_rng(0).standard_normal((TOPICS, dimensions)) * self._spectrum
        shares = 1 / (np.arange(TOPICS) + 10)
        self._shares = shares / shares.sum()

    def some(self, count: int) -> NDArray[np.float32]:
        """So many vectors, of shape (count, dimensions)."""
        centres = self._centres[self._random.choice(TOPICS, count, p=self._shares)]
        made = centres + 0.8 * self._random.standard_normal(centres.shape) * self._spectrum
        found: NDArray[np.float32] = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
        return found


class _Book:
    """Gives each query that is asked a vector of its own, once."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._known: dict[str, NDArray[np.float32]] = {}

    def vector(self, text: str) -> NDArray[np.float32]:
        if text not in self._known:
            self._known[text] = self._topics.some(1)[0]
        return self._known[text]


async def run(dsn: str) -> list[Figure]:
    """Measure on a fresh database."""
    await migrate(dsn)
    async with await open_store(dsn, application="memory-bench") as store:
        stocked = await stock(store)
        return await measure(stocked)


@dataclass
class Stocked:
    """A store that is full, and what asks it."""

    store: Store
    space: Space
    recall: Recall
    book: _Book
    words: Writer

    def queries(self, count: int) -> list[str]:
        """Half of them with common words, half with whatever words come."""
        return [" ".join(text.split()[:4]) for text in self.words.texts(count)]


async def measure(stocked: Stocked) -> list[Figure]:
    """The dearest of each kind of filter by selectivity, and what its semantic channel finds."""
    figures: list[Figure] = []
    for project, shares in SHARES.items():
        for share in shares:
            for kind in KINDS:
                figures += await _one(stocked, project, kind, share)
    return figures


async def _one(stocked: Stocked, project: str, kind: str, share: float) -> list[Figure]:
    filters = _filter(project, kind, share)
    plain, filtered = list[float](), list[float]()
    for number, query in enumerate(stocked.queries(QUERIES + 5)):
        for taken, only in ((plain, Filters()), (filtered, filters)):
            started = time.perf_counter()
            answer = await stocked.recall.query("bench", project, query, filters=only)
            if number >= 5:
                taken.append(1000 * (time.perf_counter() - started))
            assert answer.diagnostics.semantic_status == "ok", answer.diagnostics
    ratio = statistics.median(filtered) / statistics.median(plain)
    name = f"filter by {kind}, {share:.1%} of {PROJECTS[project]:,}"
    return [
        told(f"{name}: unfiltered p50", statistics.median(plain), "ms"),
        at_most(f"{name}: times the unfiltered", ratio, "", MOST_TIMES),
        at_least(f"{name}: recall@10 of exact", await recall_of(stocked, project, filters), "", RECALL),
    ]


async def recall_of(stocked: Stocked, project: str, filters: Filters) -> float:
    """Share of the ten nearest memories that match which the semantic channel finds among its first ten."""
    shares = []
    async with stocked.store.connection() as conn:
        project_id = await conn.fetchval("select id from memory_projects where slug = $1", project)
    for query in stocked.queries(RECALL_QUERIES):
        wanted = nearest.VectorQuery(project_id, stocked.book.vector(query), CANDIDATES, filters)
        found = []
        for exact in (True, False):
            async with nearest.bounded(stocked.store, 10) as conn:
                read_all = (
                    exact
                    or await nearest.is_small(conn, stocked.space.id, project_id)
                    or await nearest.few_matching(conn, project_id, filters) is not None
                )
                hits = await nearest.nearest(conn, stocked.space, wanted, exact=read_all)
            found.append({hit.chunk_id for hit in hits[:10]})
        shares.append(len(found[0] & found[1]) / len(found[0]) if found[0] else 1.0)
    return statistics.fmean(shares)


def _filter(project: str, kind: str, share: float) -> Filters:
    if kind == "type":
        return Filters(type=f"{share:g}")
    if kind == "source":
        return Filters(source=f"{share:g}")
    if kind == "tags":
        return Filters(tags=(f"{share:g}",))
    return Filters(created_after=_BEGAN + timedelta(seconds=PROJECTS[project] * (1 - share) - 0.5))


async def stock(store: Store) -> Stocked:
    """Fill a migrated database."""
    topics, words = Topics(DIMENSIONS, seed=1), Writer(random.Random(7))
    keys = KeyRing(MasterKey(bytes(32)))
    space = await make_space(store, DIMENSIONS)
    others = {f"other {number}": CHUNKS_OF_OTHERS for number in range(OTHERS)}
    async with store.connection() as conn:
        indexes = await conn.fetch(
            "select indexname, indexdef from pg_indexes where indexname in ('memory_chunks_tsv', 'memory_entries_tags')"
        )
        for index in indexes:
            await conn.execute(f"drop index {index['indexname']}")
    queued = []
    for project, count in (PROJECTS | others).items():
        tenant = await keys.tenant(store, "bench" if project in PROJECTS else project)
        project_id = await keys.project(store, tenant, project)
        about = list(_attributes(project, count))
        queued.append((tenant, project_id, about, words.texts(count), topics.some(count)))
    for part in range(PARTS):  # the tenants write side by side
        for tenant, project_id, about, texts, matrix in queued:
            rows = slice(part * len(texts) // PARTS, (part + 1) * len(texts) // PARTS)
            await _store_part(store, space, (tenant, project_id), about[rows], texts[rows], matrix[rows])
    async with store.connection() as conn:
        for index in indexes:
            await conn.execute(index["indexdef"], timeout=600)
    await hnsw.build(store, hnsw.Wanted(space.id, space.column_type, space.distance))
    async with store.connection() as conn:
        await conn.execute("vacuum analyze", timeout=600)
    return questions(store, space, keys)


def questions(store: Store, space: Space, keys: KeyRing) -> Stocked:
    """What asks a store that is full; its questions are none of the stored vectors."""
    book = _Book(Topics(DIMENSIONS, seed=2))
    recall = Recall(store, AtOnce(book), keys)  # type: ignore[arg-type]
    return Stocked(store, space, recall, book, Writer(random.Random(8)))


def _attributes(project: str, count: int) -> Iterator[tuple[str, str, list[str], datetime]]:
    """Type, source, tags, and when: memories come in the order of their time, and everything else by chance."""
    choose = random.Random(project)
    shares = SHARES.get(project, SHARES["even"])
    types, sources = ([_one_of(shares, place / count) for place in _shuffled(count, choose)] for _ in range(2))
    tags = [[place / count for place in _shuffled(count, choose)] for _ in shares]
    for number in range(count):
        has = [f"{share:g}" for share, places in zip(shares, tags, strict=True) if places[number] < share]
        yield types[number], sources[number], has, _BEGAN + timedelta(seconds=number)


def _shuffled(count: int, choose: random.Random) -> list[int]:
    places = list(range(count))
    choose.shuffle(places)
    return places


def _one_of(shares: Sequence[float], place: float) -> str:
    """The share in which a place from 0 to 1 falls, when they lie side by side."""
    for share in shares:
        if place < share:
            return f"{share:g}"
        place -= share
    return "rest"


async def _store_part(
    store: Store,
    space: Space,
    owner: tuple[Tenant, int],
    attributes: Sequence[tuple[str, str, list[str], datetime]],
    texts: Sequence[str],
    matrix: NDArray[np.float32],
) -> None:
    """Memories of one chunk each, sealed as an add seals them, with their vectors."""
    (tenant, project_id), makes = owner, random.SystemRandom()
    ids = [UUID(int=makes.getrandbits(128), version=4) for _ in texts]
    async with store.transaction() as conn:
        first = 1 + await conn.fetchval("select coalesce(max(id), 0) from memory_entries")
        await conn.copy_records_to_table(
            "memory_entries",
            columns=_COLUMNS,
            records=[
                (id_, 1, project_id, "bench", tenant.key.seal(text, Place(id_, 1, "input")), *about)
                for id_, text, about in zip(ids, texts, attributes, strict=True)
            ],
            timeout=600,
        )
        await conn.execute("create temp table texts (entry_id bigint, sealed bytea, plain text) on commit drop")
        sealed = [
            (first + number, tenant.key.seal(text, Place(ids[number], 1, "chunk")), indexed(text))
            for number, text in enumerate(texts)
        ]
        await conn.copy_records_to_table("texts", records=sealed, timeout=600)
        await _chunks(conn, space, project_id, matrix)


async def _chunks(conn: Conn, space: Space, project_id: int, matrix: NDArray[np.float32]) -> None:
    await conn.execute(
        "insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,"
        " preprocessing_version) select entry_id, $1, 0, sealed, decode(md5(entry_id::text), 'hex'),"
        " to_tsvector('english', plain) || array_to_tsvector(array[$2]::text[]), 1, 1 from texts order by entry_id",
        project_id,
        fulltext.project_lexeme(project_id),
        timeout=600,
    )
    rows = await conn.fetch("select c.id from memory_chunks c join texts using (entry_id) order by c.id")
    await conn.copy_records_to_table(
        vectors.table(space.id),
        records=[(row["id"], project_id, Vector(vector)) for row, vector in zip(rows, matrix, strict=True)],
        timeout=600,
    )
    await registry.count(conn, {registry.CHUNKS: len(rows), space.id: len(rows)})
