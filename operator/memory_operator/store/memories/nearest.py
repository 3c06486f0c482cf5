"""What the channels of a query share, and the semantic one: memories by the nearness of their vectors.

Several chunks of a memory count as one hit, by the best of them. They are grouped after they were ranked, and
what is cut off is always the worst: a limit by id, or before the grouping, would lose good hits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from math import isqrt
from typing import Any, Literal, NamedTuple

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from memory_operator.backoff import timeout_without_lag
from memory_operator.errors import Retryable, SpaceVanished
from memory_operator.memory.fusion import COUNTED
from memory_operator.plan.index import Segment
from memory_operator.store.db.pool import EF_SEARCH, Conn, Store
from memory_operator.store.spaces import hnsw, registry, segments, vectors
from memory_operator.store.spaces.spaces import SEEN_AS, Space

EXACT_BELOW_VECTORS = 10_000
"""Projects with fewer vectors in a space are scanned exactly: an index shared by all may not show them at all."""

MAX_EF_SEARCH = 1_000

_OF_LIMIT = 0.9
"""Share of a search's time for each of its statements."""

_READ_PER_STEP = 10
"""Vectors that are read one by one in the time in which the index shows one candidate, about."""

_WIDEN = 8
_MOST_CHUNKS = 5_000
"""Chunks are read again, eight times as many, while few memories own them all; a memory may have over a thousand."""

Matched = Literal["all", "any", "vector"]
"""All words of a query, some of them, or its vector."""


class TookTooLong(Retryable):
    """A search did not end within its time limit."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a memory must be to be found; None and empty ask for nothing."""

    type: str | None = None
    tags: tuple[str, ...] = ()
    """All of them."""
    source: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    """Both bounds excluded; they are about the current version."""
    each_chunk: bool = False
    """Chunks are found, each by itself, instead of memories by their best one."""


class Hit(NamedTuple):
    """A memory that a channel found, by its best chunk; or a chunk, where those are looked for."""

    key: int
    """Id of the version, or of the chunk."""
    chunk_id: int
    score: float
    """What it means is said by the channel: `fulltext.fulltext`, `nearest`."""
    matched: Matched


def filter_values(filters: Filters) -> list[object]:
    """Parameters of `filter_condition`; none where nothing is asked for."""
    values = (filters.type, list(filters.tags) or None, filters.source, filters.created_after, filters.created_before)
    return [] if all(value is None for value in values) else list(values)


_SCOPED_TAGS = "memory_scoped_tags(e.project_id, e.tags) @> memory_scoped_tags($1, ${})"
"""Tags compared so that an index finds them in one project."""


def filter_condition(first: int, tags: str = "e.tags @> ${}") -> str:
    """What memories `e` must be, in the project `$1`; the five values are the parameters from number `first` on.

    Plans are made for the values at hand, so that what is null falls away. The project stands beside the filters, so
    that no plan looks at the memories of another one. `tags` is how they are compared: from row to row, or by an index.
    """
    return f"""
e.project_id = $1 and e.current and not e.tombstone
and (${{}}::text is null or e.type = ${{}})
and (${{}}::text[] is null or {tags})
and (${{}}::text is null or e.source = ${{}})
and (${{}}::timestamptz is null or e.created_at > ${{}})
and (${{}}::timestamptz is null or e.created_at < ${{}})
""".format(*(number for value in range(first, first + 5) for number in (value, value)))


@asynccontextmanager
async def bounded(store: Store, seconds: float, limit: int = EF_SEARCH) -> AsyncIterator[Conn]:
    """A connection for one search of at most so many seconds; waiting for the connection is no part of them.

    The server itself ends a statement a little before, which is cheaper than to cancel it from here. `limit` is that of
    `nearest`. Raises TookTooLong, StoreUnavailable.
    """
    settings = {"statement_timeout": f"{max(1, round(_OF_LIMIT * seconds * 1000))}ms"}
    if limit > EF_SEARCH:
        settings["hnsw.ef_search"] = str(min(MAX_EF_SEARCH, limit))
    async with store.connection(settings) as conn:
        try:
            async with timeout_without_lag(seconds):
                yield conn
        except (asyncpg.QueryCanceledError, TimeoutError) as error:
            raise TookTooLong from error


_HAS_VECTORS = """select exists (select from {vectors} where project_id = $1 offset $2)"""


async def is_small(conn: Conn, space_id: int, project_id: int) -> bool:
    """Whether a project has fewer than EXACT_BELOW_VECTORS vectors in a space, found without counting further.

    Raises SpaceVanished.
    """
    return not await conn.fetchval(vectors.for_space(_HAS_VECTORS, space_id), project_id, EXACT_BELOW_VECTORS - 1)


async def with_few(conn: Conn, space: Space, project_id: int) -> frozenset[Segment]:
    """The segments of a space in which a project has so few vectors that reading them is faster than the index.

    Where it has none at all, the index would be read to its end. Either way of reading gives the same.
    """
    if len(space.index.segments) < 2:
        return frozenset()  # what is no small project has many there
    few = [min(EXACT_BELOW_VECTORS, _few_of(segment.rows)) for segment in space.index.segments]
    return await segments.with_few(conn, space, project_id, few)


def _few_of(rows: int) -> int:
    """By an index as many candidates are read until enough of them match as the matches are rarer among all."""
    return isqrt(COUNTED * _READ_PER_STEP * max(0, rows))


# The limit is a parameter, so that the planner knows that nearly all rows of the project are wanted.
_COUNT_MATCHING = f"""
select count(*) from (select from memory_entries e where {filter_condition(3, _SCOPED_TAGS)} limit $2) matching
"""


async def few_matching(conn: Conn, project_id: int, filters: Filters) -> int | None:
    """How many memories of a project match a filter, where they are so few that reading their own vectors is faster.

    None where they are more; nothing is counted further. Either way of reading gives the same.
    """
    few = _few_of((await registry.counted(conn, [registry.CHUNKS])).get(registry.CHUNKS, 0))
    count = int(await conn.fetchval(_COUNT_MATCHING, project_id, few + 1, *filter_values(filters)))
    return count if count <= few else None


MATCHING_CHUNKS = f"""
select c.id from memory_chunks c where c.live and c.entry_id = any(array(
  select e.id from memory_entries e where {filter_condition(4, _SCOPED_TAGS)}))
"""
"""Chunks of the project `$1` that match the filter that begins with parameter 4, from two indexes alone.

The arrays keep the order of reading: whatever the planner takes the filter for, it begins with the project.
"""


# Nothing but a filter may stand beside an ordering that the index is to give: a window function, a grouping or a join
# defeats it. An ordering by a sum is one that it cannot give.
_BY_INDEX = """
select v.chunk_id, v.embedding {operator} $2 as distance from {vectors} v
where v.project_id = $1 and {within} order by {nearness} limit $3
"""

_ONE_BY_ONE = """
select v.chunk_id, v.embedding {operator} $2 as distance from {vectors} v
where v.project_id = $1 and {within} order by (v.embedding {operator} $2) + 0 limit $3
"""

_THAT_MATCH = f"""
(select true from memory_chunks c join memory_entries e on e.id = c.entry_id
where c.id = v.chunk_id and c.live and {filter_condition(4)})
"""

_BY_INDEX_FILTERED = f"""
select v.chunk_id, v.embedding {{operator}} $2 as distance from {{vectors}} v
where v.project_id = $1 and {{within}} and {_THAT_MATCH} order by {{nearness}} limit $3
"""

_ONE_BY_ONE_FILTERED = f"""
select v.chunk_id, v.embedding {{operator}} $2 as distance from {{vectors}} v
where v.project_id = $1 and {{within}} and {_THAT_MATCH} order by (v.embedding {{operator}} $2) + 0 limit $3
"""

_MATCHING_ONE_BY_ONE = f"""
select v.chunk_id, v.embedding {{operator}} $2 as distance from {{vectors}} v
where v.chunk_id = any(array({MATCHING_CHUNKS})) order by (v.embedding {{operator}} $2) + 0 limit $3
"""

_OF_ALL_PARTS = """
select c.entry_id, near.chunk_id, near.distance from (
  select parts.chunk_id, parts.distance from ({parts}) parts order by parts.distance limit $3) near
join memory_chunks c on c.id = near.chunk_id and c.live
"""


# One row at least says whether the space is the active one at the moment that is searched.
_ONLY_ACTIVE = f"""
select active.active, near.* from (select exists (select from memory_registry r
  join memory_embedding_spaces s on s.id = r.active_space_id
  where {{seen_as}} in (s.id::text, {SEEN_AS})) as active) active
left join lateral ({{search}}) near on active.active
"""


class VectorQuery(NamedTuple):
    """What is looked for by nearness: at most `limit` memories of a project by a vector of shape (dimensions,)."""

    project_id: int
    vector: NDArray[np.float32]
    limit: int
    filters: Filters


async def nearest(
    conn: Conn,
    space: Space,
    query: VectorQuery,
    *,
    exact: bool,
    one_by_one: Collection[Segment] = (),
    only_active: str | None = None,
) -> list[Hit]:
    """The memories nearest to a vector in one space, best first.

    `exact`: the index is left alone; for a small project, and where few match (`few_matching`). `one_by_one`: the index
    of these segments is (`with_few`). `conn` comes from `bounded`. Scores: the cosine similarity (cosine, -1…1), the
    inner product (dot, -1…1 where the model's vectors have length 1), or 1 ÷ (1 + distance) (l2, 0…1). Raises
    TookTooLong, and SpaceVanished, also where `only_active` is no name of the active space as it is now:
    `spaces.Space.seen_as`, or its id, which it has whatever else has changed.
    """
    vector = (HalfVector if space.column_type == "halfvec" else Vector)(query.vector)
    key = "chunk_id" if query.filters.each_chunk else "entry_id"
    values = filter_values(query.filters)
    search = _Nearest(conn, space, query.project_id, vector, values, key, frozenset(one_by_one), only_active)
    limit = query.limit
    hits = await search.widened(search.exactly if exact else search.by_index, limit)
    if not exact and len(hits) < limit:
        hits = await _exactly_after_all(search, limit) or hits
    return hits[:limit]


@dataclass(frozen=True, slots=True)
class _Nearest:
    conn: Conn
    space: Space
    project_id: int
    vector: Any
    filters: list[object]
    key: str
    """What is found: the column of it."""
    one_by_one: frozenset[Segment]
    only_active: str | None

    @property
    def exactly(self) -> str:
        """Reads all vectors of the project, or those that match."""
        read = _MATCHING_ONE_BY_ONE if self.filters else _ONE_BY_ONE
        return _together([self._part(read, hnsw.in_use(self.space)[0], "true")])

    @property
    def by_index(self) -> str:
        """Asks each index, and each memory that it shows whether it matches; reads what no index has."""
        found = hnsw.in_use(self.space)
        ask = _BY_INDEX_FILTERED if self.filters else _BY_INDEX
        read = _ONE_BY_ONE_FILTERED if self.filters else _ONE_BY_ONE
        parts = [
            self._part(read if each.segment in self.one_by_one else ask, each, hnsw.within(each.segment))
            for each in found
        ]
        if self.space.index.end is not None:
            parts.append(self._part(read, found[0], hnsw.beyond(self.space.index.end)))
        return _together(parts)

    def _part(self, statement: str, index: hnsw.Wanted, within: str) -> str:
        operator, nearness = hnsw.OPERATORS[index.distance], hnsw.nearness(index, "$2")
        return vectors.for_space(statement, self.space.id, operator=operator, nearness=nearness, within=within)

    async def widened(self, text: str, limit: int) -> list[Hit]:
        """The best of each memory; more chunks are read while few memories own them all."""
        many = limit if text == self.exactly else hnsw.candidates(self.space.index.kind, limit)
        values = list(self.filters)
        if self.only_active is not None:
            values.append(self.only_active)
            text = _ONLY_ACTIVE.format(search=text, seen_as=f"${3 + len(values)}")
        while True:
            rows = await self.conn.fetch(text, self.project_id, self.vector, many, *values)
            if self.only_active is not None:
                if not rows[0]["active"]:
                    raise SpaceVanished
                rows = rows if rows[0]["chunk_id"] is not None else []
            ordered = sorted([(row["distance"], row["chunk_id"], row[self.key]) for row in rows])
            hits = _best_of_each(ordered, self.space.distance)
            if len(hits) >= limit or len(rows) < many or many >= _MOST_CHUNKS:
                return hits
            many = min(many * _WIDEN, _MOST_CHUNKS)


def _together(parts: Sequence[str]) -> str:
    return _OF_ALL_PARTS.format(parts=" union all ".join(f"({part})" for part in parts))


async def _exactly_after_all(search: _Nearest, limit: int) -> list[Hit]:
    """Read all vectors (that match) of the project when the index gave up before it had found enough of them.

    What the index did find is better than nothing, so running out of time here is no failure.
    """
    try:
        return await search.widened(search.exactly, limit)
    except asyncpg.QueryCanceledError:
        return []


def _best_of_each(ordered: Sequence[tuple[float, int, int]], distance: str) -> list[Hit]:
    """The first of each key, of distances with chunk and key."""
    best: dict[int, Hit] = {}
    for far, chunk_id, key in ordered:
        if key not in best:
            best[key] = Hit(key, chunk_id, similarity(far, distance), "vector")
    return list(best.values())


def similarity(distance: float, kind: str) -> float:
    """What is told of a distance: see `nearest`."""
    if kind == "cosine":
        return 1 - distance
    return -distance if kind == "dot" else 1 / (1 + distance)
