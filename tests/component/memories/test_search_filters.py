"""Filters: whichever way is taken, the same memories are found, and no memory of another project is looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.memories import Memories, config
from memory_operator.engine.memories.recall import Recall
from memory_operator.memory.search_terms import query_terms
from memory_operator.store.db.pool import Conn
from memory_operator.store.memories import fulltext, nearest
from memory_operator.store.memories.fulltext import Sizes, WordQuery
from memory_operator.store.memories.nearest import Filters, Hit, VectorQuery
from memory_operator.store.spaces import hnsw
from memory_operator.store.spaces.spaces import Space
from vendor.vectors import Codebook

DIMENSIONS = 32
PROJECTS, EACH = 8, 1_000
OURS = 3
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

STOCK = """
insert into memory_tenants (name, wrapped_key) select 't' || n, '' from generate_series(1, {projects}) n;
insert into memory_projects (tenant_id, slug) select n, 'p' from generate_series(1, {projects}) n;
insert into memory_entries (canonical_id, version_no, project_id, created_by, input, type, source, tags, created_at)
  select gen_random_uuid(), 1, 1 + n % {projects}, 't', sha512(n::text::bytea) || sha512((-n)::text::bytea),
  case when n % 97 < 9 then 'rare' else 'usual' end,
  case when n % 89 < 9 then 'rare' else 'usual' end,
  case when n % 83 < 9 then '{{rare,all}}'::text[] else '{{all}}' end,
  '2026-01-01 00:00Z'::timestamptz + n * interval '1 s' from generate_series(1, {rows}) n;
insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,
  preprocessing_version) select id, project_id, 0, '', '', to_tsvector('english', 'apple word' || id % 7) ||
  array_to_tsvector(array['project ' || project_id]), 1, 1 from memory_entries order by id
"""

FILTERS = {
    "type": Filters(type="rare"),
    "source": Filters(source="rare"),
    "tags": Filters(tags=("all", "rare")),
    "created": Filters(created_after=BEGAN + timedelta(seconds=0.9 * PROJECTS * EACH)),
    "created before": Filters(created_before=BEGAN + timedelta(seconds=0.1 * PROJECTS * EACH)),
    "several": Filters(
        type="usual", source="rare", tags=("all",), created_after=BEGAN + timedelta(seconds=PROJECTS * 9)
    ),
    "nearly all": Filters(type="usual"),
    "none": Filters(type="unknown"),
}


@pytest.fixture
async def space(memories: Memories) -> Space:
    """A space with an index, and many projects of the same size."""
    made = await memories.space(config(DIMENSIONS))
    world, book = memories.world, Codebook("m", DIMENSIONS)
    async with world.store.connection() as conn:
        await conn.execute(STOCK.format(projects=PROJECTS, rows=PROJECTS * EACH))
        rows = await conn.fetch("select id, project_id from memory_chunks")
        await conn.copy_records_to_table(
            f"memory_vectors_{made.id}",
            records=[(row["id"], row["project_id"], book.vector(f"text {row['id']}")) for row in rows],
        )
    await hnsw.build(world.store, hnsw.Wanted(made.id, made.column_type, made.distance))
    await world.fetch("update memory_embedding_counters set n = 0")
    await world.fetch(f"insert into memory_embedding_counters values (0, 1, {PROJECTS * EACH}) on conflict do nothing")
    await world.fetch("vacuum analyze")
    return made


class Reads:
    """A connection that counts the rows that its statements read of each table, also those that they leave out."""

    def __init__(self, conn: Conn) -> None:
        self._conn = conn
        self.rows: dict[str, int] = {}
        self.indexes: set[str] = set()

    async def fetch(self, query: str, *values: Any) -> Any:
        await self._explain(query, values)
        return await self._conn.fetch(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:
        await self._explain(query, values)
        return await self._conn.fetchval(query, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    async def _explain(self, query: str, values: tuple[Any, ...]) -> None:
        plan = await self._conn.fetchval(f"explain (analyze, format json) {query}", *values)
        for node in _nodes(json.loads(plan) if isinstance(plan, str) else plan):
            self.indexes.add(node.get("Index Name", ""))
            if "Relation Name" in node:
                left_out = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
                read = round((node["Actual Rows"] + left_out) * node["Actual Loops"])
                self.rows[node["Relation Name"]] = max(read, self.rows.get(node["Relation Name"], 0))


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, list):
        for part in plan:
            yield from _nodes(part)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        for part in plan.values():
            yield from _nodes(part)


async def by_vector(conn: Any, space: Space, filters: Filters, *, exact: bool, limit: int = 40) -> list[Hit]:
    wanted = VectorQuery(OURS, Codebook("m", DIMENSIONS).vector("query"), limit, filters)
    return await nearest.nearest(conn, space, wanted, exact=exact)


async def by_words(conn: Any, filters: Filters, sizes: Sizes, limit: int = 40) -> list[Hit]:
    return await fulltext.fulltext(conn, WordQuery(OURS, query_terms("apple word3"), limit, filters), sizes)


async def test_no_memory_of_another_project_is_looked_at(world: World, space: Space) -> None:
    for name, filters in FILTERS.items():
        async with nearest.bounded(world.store, 60) as conn:
            reads = Reads(conn)
            matching = await nearest.few_matching(reads, OURS, filters)  # type: ignore[arg-type]
            assert matching is not None
            for exact in (True, False):
                await by_vector(reads, space, filters, exact=exact, limit=10)
            for few in (matching, None):
                await by_words(reads, filters, Sizes(small=True, matching=few))
        # What a plan leaves out is told as an average of whole rows.
        assert max(reads.rows["memory_entries"], reads.rows["memory_chunks"]) <= 1.5 * EACH, (name, reads.rows)
        index = {"created before": "created", "several": "source", "nearly all": "type", "none": "type"}.get(name, name)
        assert f"memory_entries_{index}" in reads.indexes, name


async def test_each_way_of_reading_finds_the_same(world: World, space: Space) -> None:
    for name, filters in FILTERS.items():
        async with nearest.bounded(world.store, 60) as conn:
            exact = await by_vector(conn, space, filters, exact=True, limit=10)
            by_index = await by_vector(conn, space, filters, exact=False, limit=10)
            assert [hit.key for hit in by_index] == [hit.key for hit in exact], name
            matching = await nearest.few_matching(conn, OURS, filters)
            listed = await by_words(conn, filters, Sizes(small=True, matching=matching), limit=10)
            one_by_one = await by_words(conn, filters, Sizes(small=False, matching=None), limit=10)
            assert {hit.key for hit in listed} == {hit.key for hit in one_by_one}, name
            found = {hit.key for hit in [*exact, *listed]}
            assert await _all_match(conn, filters, found) == len(found), name
        assert bool(exact) == bool(listed) == (name != "none")


async def _all_match(conn: Conn, filters: Filters, entries: set[int]) -> int:
    condition = nearest.filter_condition(2)
    statement = f"select count(*) from memory_entries e where e.id = any($7) and {condition}"
    return int(await conn.fetchval(statement, OURS, *nearest.filter_values(filters), list(entries)))


async def test_a_filter_that_many_match_is_asked_by_the_index(world: World, space: Space) -> None:
    async with nearest.bounded(world.store, 60) as conn:
        for chunks, few in ((PROJECTS * EACH, True), (100, False)):
            await conn.execute("update memory_embedding_counters set n = $1 where scope = 0", chunks)
            assert (await nearest.few_matching(conn, OURS, FILTERS["nearly all"]) is not None) is few


class SlowCounts:
    """A store of large projects whose connections count what matches a filter slowly, and how often they do."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.counts = 0

    @asynccontextmanager
    async def connection(self, settings: Mapping[str, str] | None = None) -> AsyncIterator[Any]:
        async with self._inner.connection(settings) as conn:
            yield SlowCountsOf(conn, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SlowCountsOf:
    def __init__(self, conn: Any, store: SlowCounts) -> None:
        self._conn, self._store = conn, store

    async def fetchval(self, query: str, *values: Any) -> Any:
        if "select exists (select from memory_vectors" in query:
            return True  # what a project has that is not small
        if "count(*)" in query and "memory_entries" in query:
            self._store.counts += 1
            await asyncio.sleep(0.1)
        return await self._conn.fetchval(query, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


async def test_what_matches_a_filter_is_counted_once_for_all_channels(memories: Memories) -> None:
    await memories.space(config())
    for number in range(5):
        await memories.add(f"apple number {number}", type="rare")
    store = SlowCounts(memories.world.store)
    recall = Recall(store, memories.world.connector, memories.world.keys)  # type: ignore[arg-type]
    answer = await recall.query("default", "default", "apple", 10, filters=Filters(type="rare"))
    assert len(answer.results) == 5
    assert store.counts == 1
