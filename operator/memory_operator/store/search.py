"""The two channels that find memories: full-text and semantic. Each reads one project, best first.

Several chunks of a memory count as one hit, by the best of them. They are grouped after they were ranked, and
what is cut off is always the worst: a limit by id, or before the grouping, would lose good hits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from memory_operator.errors import Retryable
from memory_operator.memory.terms import Asked
from memory_operator.store import vectors
from memory_operator.store.pool import Conn, Store
from memory_operator.store.spaces import Space

EXACT_BELOW_VECTORS = 10_000
"""Projects with fewer vectors in a space are scanned exactly: an index shared by all may not show them at all."""

ENOUGH_MATCHES = 2_000
"""Full-text matches that are ranked; of more than that, the newest ones."""

MAX_WORDS = 10
"""Words that are looked for one by one when no memory has all of them: the longest, which are the rarest."""

ANY_WORD_MATCHES = 1_600
"""Matches of single words that are weighed against each other, shared among the words."""

EF_SEARCH = 100
"""Candidates that the index keeps: recall@10 is 0.999 there on 50,000 vectors of 768 dimensions, 0.96 at 40."""

MAX_EF_SEARCH = 1_000

_WIDEN = 8
_MOST_CHUNKS = 5_000
"""Chunks are read again, eight times as many, while few memories own them all; a memory may have over a thousand."""

_OPERATORS = {"cosine": "<=>", "l2": "<->", "dot": "<#>"}


class SpaceVanished(Retryable):
    """The space was discarded after it had been chosen."""


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
    """Full-text: above 0.5 when all words are there, by how near they are to each other; otherwise half of the
    share of the words found, rare ones weighing more. Semantic: see `nearest`."""
    matched: Literal["all", "any", "vector"]


@asynccontextmanager
async def bounded(store: Store, seconds: float) -> AsyncIterator[Conn]:
    """A transaction whose statements the server itself ends after a time. Raises TookTooLong, StoreUnavailable."""
    async with store.connection() as conn:
        try:
            async with conn.transaction(readonly=True):
                await conn.execute(
                    "select set_config('statement_timeout', $1, true)", f"{max(1, round(seconds * 1000))}ms"
                )
                yield conn
        except asyncpg.QueryCanceledError as error:
            raise TookTooLong(f"a search took longer than {seconds:g} s") from error


async def fulltext(conn: Conn, project_id: int, query: Asked, limit: int, filters: Filters) -> list[Hit]:
    """Memories with all words of a query, then memories with any of them; at most `limit`, best first."""
    hits = await _all_words(conn, project_id, query, limit, filters)
    if len(hits) < limit:
        known = {hit.entry_id for hit in hits}
        some = await _any_word(conn, project_id, query, limit + len(known), filters)
        hits += [hit for hit in some if hit.entry_id not in known]
    return hits[:limit]


async def _all_words(conn: Conn, project_id: int, query: Asked, limit: int, filters: Filters) -> list[Hit]:
    only = _Filtered(filters, first=5)
    # The ordering of the inner query lets the planner choose: rare words by their index, common ones by reading
    # the newest chunks until there are enough.
    wanted = "(websearch_to_tsquery('english', $2) || plainto_tsquery('english', $3))"
    rows = await conn.fetch(
        "select * from (select distinct on (entry_id) entry_id, id,"
        f"   0.5 + 0.5 * ts_rank_cd(tsv, {wanted}, 32) as score from ("
        f"     select c.id, c.entry_id, c.tsv from memory_chunks c {only.join('c.entry_id')}"
        f"     where c.live and c.project_id = $1 and c.tsv @@ {wanted} {only.condition}"
        f"     order by c.id desc limit {ENOUGH_MATCHES}) matching"
        "   order by entry_id, score desc, id) best order by score desc, entry_id desc limit $4",
        project_id,
        query.written,
        query.parts,
        limit,
        *only.values,
    )
    return [Hit(row["entry_id"], row["id"], row["score"], "all") for row in rows]


async def _any_word(conn: Conn, project_id: int, query: Asked, limit: int, filters: Filters) -> list[Hit]:
    words = await conn.fetchval(
        "select array(select lexeme from unnest(to_tsvector('english', $1)) order by length(lexeme) desc, lexeme"
        " limit $2)",
        query.words,
        MAX_WORDS,
    )
    if not words:
        return []
    only = _Filtered(filters, first=4 + len(words))
    share = ANY_WORD_MATCHES // max(4, len(words))
    # Each word brings its own newest matches, so that a common word cannot push the matches of a rare one out.
    matches = " union all ".join(
        f"(select {number} as word, c.id, c.entry_id, c.tsv from memory_chunks c {only.join('c.entry_id')}"
        f" where c.live and c.project_id = $1 and c.tsv @@ ${number + 4}::text::tsquery {only.condition}"
        f" order by c.id desc limit {share})"
        for number in range(len(words))
    )
    quoted = [_quoted(word) for word in words]
    rows = await conn.fetch(
        f"with matching as materialized ({matches}),"
        # The fewer matches a word has, the more it says; one with more than its share counts as four times that.
        " words as materialized (select w.query::tsquery as query, ln(1 + 100000.0 / case"
        f"   when count(m.id) >= {share} then {4 * share} else greatest(count(m.id), 1) end)::float8 as weight"
        "   from unnest($2::text[]) with ordinality as w (query, number)"
        "   left join matching m on m.word = w.number - 1 group by w.number, w.query),"
        " weighed as (select c.entry_id, c.id,"
        "   0.5 * (select sum(w.weight) from words w where c.tsv @@ w.query)"
        "     / (select sum(weight) from words) as score"
        "   from (select distinct on (id) id, entry_id, tsv from matching) c)"
        " select * from (select distinct on (entry_id) entry_id, id, score from weighed"
        "   order by entry_id, score desc, id) best order by score desc, entry_id desc limit $3",
        project_id,
        quoted,
        limit,
        *quoted,
        *only.values,
    )
    return [Hit(row["entry_id"], row["id"], row["score"], "any") for row in rows]


async def is_small(conn: Conn, space_id: int, project_id: int) -> bool:
    """Whether a project has fewer than EXACT_BELOW_VECTORS vectors in a space, found without counting further.

    Raises SpaceVanished.
    """
    async with _told_when_gone():
        return not await conn.fetchval(
            f"select exists (select from {vectors.table(space_id)} where project_id = $1 offset $2)",
            project_id,
            EXACT_BELOW_VECTORS - 1,
        )


async def nearest(
    conn: Conn,
    space: Space,
    project_id: int,
    query: NDArray[np.float32],
    limit: int,
    filters: Filters,
    *,
    exact: bool,
) -> list[Hit]:
    """The memories nearest to a vector of shape (dimensions,) in one space; at most `limit`, best first.

    `conn` is in a transaction of its own (`bounded`), which is told how to read the index. Scores: the cosine
    similarity (cosine, -1…1), the inner product (dot, -1…1 where the model's vectors have length 1), or
    1 ÷ (1 + distance) (l2, 0…1). Raises SpaceVanished, TookTooLong.
    """
    vector = (HalfVector if space.column_type == "halfvec" else Vector)(query)
    search = _Nearest(conn, space, project_id, vector, filters)
    async with _told_when_gone():
        await (_scan_exactly(conn) if exact else _scan_index(conn, limit))
        hits, many, rows = [], limit, []
        while True:
            rows = await search.chunks(many)
            hits = _best_of_each(rows, space.distance)
            if len(hits) >= limit or len(rows) < many or many >= _MOST_CHUNKS:
                break
            many = min(many * _WIDEN, _MOST_CHUNKS)
        if not exact and len(rows) < many and len(hits) < limit:
            hits = await _exactly_after_all(search, many) or hits
    return hits[:limit]


@dataclass(frozen=True, slots=True)
class _Nearest:
    conn: Conn
    space: Space
    project_id: int
    vector: Any
    filters: Filters

    async def chunks(self, many: int) -> list[Any]:
        """The nearest chunks with their distances, nearest first."""
        only = _Filtered(self.filters, first=4)
        joins = f"join memory_chunks c on c.id = v.chunk_id {only.join('c.entry_id')}" if only.values else ""
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


async def _exactly_after_all(search: _Nearest, many: int) -> list[Hit]:
    """Read all vectors of the project when the index gave up before it had found enough of them.

    What the index did find is better than nothing, so running out of time here is no failure.
    """
    await _scan_exactly(search.conn)
    try:
        return _best_of_each(await search.chunks(many), search.space.distance)
    except asyncpg.QueryCanceledError:
        return []


async def _scan_exactly(conn: Conn) -> None:
    # HNSW is only ever read by a plain index scan; the index on the project can be read by a bitmap scan too.
    await conn.execute("select set_config('enable_indexscan', 'off', true)")


async def _scan_index(conn: Conn, limit: int) -> None:
    await conn.execute(
        # The literal loads the extension's library, and with it the settings; pgvector 0.7 lacks the second.
        "select '[0]'::vector is null, set_config('hnsw.ef_search', $1, true),"
        " case when current_setting('hnsw.iterative_scan', true) is not null"
        " then set_config('hnsw.iterative_scan', 'relaxed_order', true) end",
        str(min(MAX_EF_SEARCH, max(EF_SEARCH, limit))),
    )


def _best_of_each(rows: Sequence[Any], distance: str) -> list[Hit]:
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


@asynccontextmanager
async def _told_when_gone() -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise SpaceVanished from error
    except asyncpg.InternalServerError as error:
        # A statement that was prepared before finds its table gone at another place.
        if "could not open relation" not in str(error):
            raise
        raise SpaceVanished from error


def _quoted(lexeme: str) -> str:
    """A lexeme as a tsquery that looks for exactly it."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


class _Filtered:
    """Filters as SQL: a join, a condition behind it, and the values of its parameters from number `first` on."""

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
        self.condition = "".join(
            f" and {clause.format(number)}" for number, (clause, _) in enumerate(wanted, start=first)
        )

    def join(self, entry_id: str) -> str:
        """The join with the entries; nothing where nothing is asked of them."""
        return f"join memory_entries e on e.id = {entry_id}" if self.values else ""
