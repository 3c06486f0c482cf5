"""The vectors of a space by the segments of its index: what is in none, and where a project has few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from memory_operator.plan.index import FOLD_FROM, MOST_UNINDEXED, Segment
from memory_operator.store.db.pool import Conn, Store, fetch_one
from memory_operator.store.spaces import hnsw, vectors
from memory_operator.store.spaces.spaces import Space

_COUNT = """select count(*) from (select from {vectors} v where v.chunk_id >= $1 limit $2) beyond"""


async def unindexed(conn: Conn, space: Space) -> int:
    """Vectors that no segment has, counted to a little beyond MOST_UNINDEXED; 0 where one index has all, or none is."""
    if space.index.end is None:
        return 0
    try:
        statement = vectors.for_space(_COUNT, space.id)
        return int(await conn.fetchval(statement, space.index.end, MOST_UNINDEXED + 1))
    except asyncpg.UndefinedTableError:
        return 0


_NEWEST = """
select coalesce(max(chunk_id) + 1, 0) as end, extract(epoch from clock_timestamp())::float8 as now from {vectors}
"""


async def due(conn: Conn, space: Space) -> tuple[int, float]:
    """Vectors that no segment has, where there may be enough to build an index of, else 0; and the database's time."""
    end = space.index.end
    row = await fetch_one(conn, vectors.for_space(_NEWEST, space.id))
    few = end is None or row["end"] - end < FOLD_FROM
    return 0 if few else await unindexed(conn, space), row["now"]


@dataclass(frozen=True, slots=True)
class Rest:
    """What lies behind a chunk id, at one moment."""

    rows: int
    end: int
    """The first id behind all of it."""
    now: float


_REST = """
select (select count(*) from {vectors} where chunk_id >= $1) as rows,
(select coalesce(max(chunk_id) + 1, $1) from {vectors} where chunk_id >= $1) as end,
extract(epoch from clock_timestamp())::float8 as now
"""


async def rest(store: Store, space_id: int, first: int, job_id: int | None = None) -> Rest:
    """The vectors of chunks from an id on. What is committed later with a smaller id enters the index by itself."""
    async with store.connection() as conn:
        row = await fetch_one(conn, vectors.for_space(_REST, space_id, job_id), first)
    return Rest(row["rows"], row["end"], row["now"])


_IS_THERE = """select indisvalid from pg_index where indexrelid = to_regclass($1)"""

_DROP = """drop index concurrently if exists {index}"""

_CREATE = """create index concurrently {index} on {vectors} (project_id, chunk_id)"""


async def index_projects(store: Store, space_id: int) -> None:
    """See that a project's vectors are found by segment: tables of older releases have an index by project alone."""
    table = vectors.table(space_id)
    name = f"{table}_project_chunk"
    async with store.dedicated("memory-index") as conn:
        if await conn.fetchval(_IS_THERE, name):
            return
        await conn.execute(_DROP.format(index=name))
        await conn.execute(vectors.for_space(_CREATE, space_id, index=name))
        await conn.execute(_DROP.format(index=f"{table}_project"))


_FEW = """
select {at} as at, count(*) as n
from (select from {vectors} v where v.project_id = $1 and {within} limit {limit}) found
"""


async def with_few(conn: Conn, space: Space, project_id: int, few: Sequence[int]) -> frozenset[Segment]:
    """The segments of a space in which a project has so few vectors; `few` says how many for each."""
    if not space.index.segments:
        return frozenset()
    counts = [
        vectors.for_space(_FEW, space.id, at=str(at), within=hnsw.within(segment), limit=str(int(few[at]) + 1))
        for at, segment in enumerate(space.index.segments)
    ]
    rows = await conn.fetch(" union all ".join(f"({count})" for count in counts), project_id)
    return frozenset(space.index.segments[row["at"]] for row in rows if row["n"] <= few[row["at"]])
