"""What the channels of a query share, and the semantic one: memories by the nearness of their vectors.

Several chunks of a memory count as one hit, by the best of them. They are grouped after they were ranked, and
what is cut off is always the worst: a limit by id, or before the grouping, would lose good hits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from memory_operator.backoff import timeout_without_lag
from memory_operator.errors import Retryable
from memory_operator.store.db.pool import Conn, Row, Store
from memory_operator.store.spaces import vectors
from memory_operator.store.spaces.spaces import Space

EXACT_BELOW_VECTORS = 10_000
"""Projects with fewer vectors in a space are scanned exactly: an index shared by all may not show them at all."""

EF_SEARCH = 100
"""Candidates that the index keeps: recall@10 is 0.999 there on 50,000 vectors of 768 dimensions, 0.96 at 40."""

MAX_EF_SEARCH = 1_000

_WIDEN = 8
_MOST_CHUNKS = 5_000
"""Chunks are read again, eight times as many, while few memories own them all; a memory may have over a thousand."""

_OPERATORS = {"cosine": "<=>", "l2": "<->", "dot": "<#>"}


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


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that a channel found, by its best chunk."""

    entry_id: int
    chunk_id: int
    score: float
    """What it means is said by the channel: `words.fulltext`, `nearest`."""
    matched: Matched


@asynccontextmanager
async def bounded(store: Store, seconds: float) -> AsyncIterator[Conn]:
    """A connection for one search of at most so many seconds; waiting for the connection is no part of them.

    A search tells the server how long its statements may take, and how to read. What it sets ends when the pool takes
    the connection back. A transaction would do the same for two round trips more. Raises TookTooLong, StoreUnavailable.
    """
    async with store.connection() as conn:
        try:
            async with timeout_without_lag(seconds):
                yield conn
        except (asyncpg.QueryCanceledError, TimeoutError) as error:
            raise TookTooLong from error


def limit_text(seconds: float) -> str:
    """A value for `statement_timeout`."""
    return f"{max(1, round(seconds * 1000))}ms"


async def is_small(conn: Conn, space_id: int, project_id: int) -> bool:
    """Whether a project has fewer than EXACT_BELOW_VECTORS vectors in a space, found without counting further.

    Raises SpaceVanished.
    """
    return not await conn.fetchval(
        f"select exists (select from {vectors.table(space_id)} where project_id = $1 offset $2)",
        project_id,
        EXACT_BELOW_VECTORS - 1,
    )


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
    seconds: float,
) -> list[Hit]:
    """The memories nearest to a vector in one space, best first.

    `conn` comes from `bounded`; each statement takes at most `seconds`. Scores: the cosine
    similarity (cosine, -1…1), the inner product (dot, -1…1 where the model's vectors have length 1), or
    1 ÷ (1 + distance) (l2, 0…1). Raises SpaceVanished, TookTooLong.
    """
    vector = (HalfVector if space.column_type == "halfvec" else Vector)(query.vector)
    search, limit = _Nearest(conn, space, query.project_id, vector, query.filters), query.limit
    await (_scan_exactly(conn, seconds) if exact else _scan_index(conn, limit, seconds))
    hits, many, rows = [], limit, []
    while True:
        rows = await search.chunks(many)
        hits = _best_of_each(rows, space.distance)
        if len(hits) >= limit or len(rows) < many or many >= _MOST_CHUNKS:
            break
        many = min(many * _WIDEN, _MOST_CHUNKS)
    if not exact and len(rows) < many and len(hits) < limit:
        hits = await _exactly_after_all(search, many, seconds) or hits
    return hits[:limit]


@dataclass(frozen=True, slots=True)
class _Nearest:
    conn: Conn
    space: Space
    project_id: int
    vector: Any
    filters: Filters

    async def chunks(self, many: int) -> list[Row]:
        """The nearest chunks with their distances, nearest first."""
        only = Filtered(self.filters, first=4)
        joins = f"join memory_chunks c on c.id = v.chunk_id {only.join}" if only.values else ""
        distance = f"v.embedding {_OPERATORS[self.space.distance]} $2"
        # Nothing but a filter may stand beside the ordering: a window function or a grouping defeats the index.
        rows = await self.conn.fetch(
            "select c.entry_id, near.chunk_id, near.distance from ("
            f"  select v.chunk_id, {distance} as distance from {vectors.table(self.space.id)} v {joins}"
            f"  where v.project_id = $1 {only.condition} order by {distance} limit $3) near"
            " join memory_chunks c on c.id = near.chunk_id and c.live",
            self.project_id,
            self.vector,
            many,
            *only.values,
        )
        return sorted(rows, key=lambda row: (row["distance"], row["chunk_id"]))


async def _exactly_after_all(search: _Nearest, many: int, seconds: float) -> list[Hit]:
    """Read all vectors of the project when the index gave up before it had found enough of them.

    What the index did find is better than nothing, so running out of time here is no failure.
    """
    await _scan_exactly(search.conn, seconds)
    try:
        return _best_of_each(await search.chunks(many), search.space.distance)
    except asyncpg.QueryCanceledError:
        return []


async def _scan_exactly(conn: Conn, seconds: float) -> None:
    # HNSW is only ever read by a plain index scan; the index on the project can be read by a bitmap scan too.
    await conn.execute(
        "select set_config('statement_timeout', $1, false), set_config('enable_indexscan', 'off', false)",
        limit_text(seconds),
    )


async def _scan_index(conn: Conn, limit: int, seconds: float) -> None:
    await conn.execute(
        "select set_config('statement_timeout', $1, false),"
        # The literal loads the extension's library, and with it the settings; pgvector 0.7 lacks the second.
        " '[0]'::vector is null, set_config('hnsw.ef_search', $2, false),"
        " case when current_setting('hnsw.iterative_scan', true) is not null"
        " then set_config('hnsw.iterative_scan', 'relaxed_order', false) end",
        limit_text(seconds),
        str(min(MAX_EF_SEARCH, max(EF_SEARCH, limit))),
    )


def _best_of_each(rows: Sequence[Row], distance: str) -> list[Hit]:
    best: dict[int, Hit] = {}
    for row in rows:
        if row["entry_id"] not in best:
            score = _similarity(row["distance"], distance)
            best[row["entry_id"]] = Hit(row["entry_id"], row["chunk_id"], score, "vector")
    return list(best.values())


def _similarity(distance: float, kind: str) -> float:
    if kind == "cosine":
        return 1 - distance
    return -distance if kind == "dot" else 1 / (1 + distance)


class Filtered:
    """Filters as SQL on chunks `c`: a join, a condition, and the values of its parameters from number `first` on."""

    def __init__(self, filters: Filters, first: int) -> None:
        wanted: list[tuple[str, object]] = []
        if filters.type is not None:
            wanted.append(("e.type = ${}::text", filters.type))
        if filters.tags:
            wanted.append(("e.tags @> ${}::text[]", list(filters.tags)))
        if filters.source is not None:
            wanted.append(("e.source = ${}::text", filters.source))
        if filters.created_after is not None:
            wanted.append(("e.created_at > ${}::timestamptz", filters.created_after))
        if filters.created_before is not None:
            wanted.append(("e.created_at < ${}::timestamptz", filters.created_before))
        self.values = [value for _, value in wanted]
        self.join = "join memory_entries e on e.id = c.entry_id" if wanted else ""
        self.condition = "".join(
            f" and {clause.format(number)}" for number, (clause, _) in enumerate(wanted, start=first)
        )
