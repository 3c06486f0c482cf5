"""Vector tables, one per space, named after the space's id: narrow, and never altered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import asyncpg
import numpy as np
from numpy.typing import NDArray

from memory_operator.store.db.pool import Conn

COPY_SECONDS = 60.0
_PIECE_BYTES = 512 * 1024


def table(space_id: int, job_id: int | None = None) -> str:
    """Name of a space's vector table, or of the one that a job fills afresh.

    The ids are integers of ours, so the name needs no quoting.
    """
    name = f"memory_vectors_{int(space_id)}"
    return name if job_id is None else f"{name}_job_{int(job_id)}"


def for_space(statement: str, space_id: int, job_id: int | None = None, /, **names: str) -> str:
    """A statement on the vectors of a space, whose table stands in it as `{vectors}`; `names` are others of ours.

    With `job_id` on those that the job fills afresh.
    """
    return statement.format(vectors=table(space_id, job_id), **names)


_CREATE_TABLE = """
create table {vectors} (
  chunk_id bigint primary key references memory_chunks on delete cascade,
  project_id int not null,
  embedding {column} not null)
"""


class Reach(NamedTuple):
    """Chunks: those of a project, and those up to an id; None: all."""

    project_id: int | None = None
    upto_id: int | None = None


EVERYWHERE = Reach()

_STORE = """alter table {vectors} alter column embedding set storage {storage}"""

_MOST_IN_ROW = {"vector": 2_000, "halfvec": 4_000}
"""Dimensions that a row of 8 kB has room for."""

_INDEX_PROJECT = """create index {vectors}_project_chunk on {vectors} (project_id, chunk_id)"""


async def create_table(conn: Conn, space_id: int, column_type: str, dimensions: int, job_id: int | None = None) -> None:
    """Make an empty vector table. Its foreign key waits for open writers of chunks. Raises LockBusy."""
    if column_type not in _MOST_IN_ROW:
        raise ValueError(column_type)
    await conn.execute(for_space(_CREATE_TABLE, space_id, job_id, column=f"{column_type}({int(dimensions)})"))
    # In the row itself where there is room: out of line, an exact scan takes 2.7 times as long and an index build 1.5
    # times. Numbers are not compressed in either place.
    storage = "plain" if dimensions <= _MOST_IN_ROW[column_type] else "external"
    await conn.execute(for_space(_STORE, space_id, job_id, storage=storage))
    await conn.execute(for_space(_INDEX_PROJECT, space_id, job_id))


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors on their way into a table, by chunk."""

    chunk_ids: NDArray[np.int64]
    """Shape (n,)."""
    project_ids: NDArray[np.int32]
    """Shape (n,)."""
    embeddings: NDArray[np.float32]
    """Shape (n, dimensions)."""

    def only(self, chunk_ids: Sequence[int]) -> Rows:
        """Those of some chunks."""
        kept = np.isin(self.chunk_ids, np.asarray(chunk_ids, dtype=np.int64))
        return Rows(self.chunk_ids[kept], self.project_ids[kept], self.embeddings[kept])


def fit(embeddings: NDArray[np.float32], column_type: str) -> bool:
    """Whether a column can hold vectors, of shape (n, dimensions): 16 bits hold neither 65,520 nor 0.00000001."""
    if column_type != "halfvec":
        return True
    with np.errstate(over="ignore", under="ignore"):
        held = embeddings.astype(np.float16)
    return bool(np.isfinite(held).all() and held.any(axis=1).all())


_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"


def copy_stream(rows: Rows, column_type: str) -> bytes:
    """The rows as PostgreSQL's binary COPY takes them: chunk_id, project_id, embedding, each behind its length."""
    count, dimensions = rows.embeddings.shape
    number = ">f2" if column_type == "halfvec" else ">f4"
    row = np.dtype(
        [
            ("fields", ">i2"),
            ("length_1", ">i4"),
            ("chunk_id", ">i8"),
            ("length_2", ">i4"),
            ("project_id", ">i4"),
            ("length_3", ">i4"),
            ("dimensions", ">i2"),
            ("unused", ">i2"),
            ("embedding", number, (dimensions,)),
        ]
    )
    out = np.zeros(count, dtype=row)
    out["fields"], out["length_1"], out["length_2"] = 3, 8, 4
    out["length_3"] = 4 + dimensions * np.dtype(number).itemsize
    out["dimensions"] = dimensions
    out["chunk_id"], out["project_id"], out["embedding"] = rows.chunk_ids, rows.project_ids, rows.embeddings
    return _SIGNATURE + out.tobytes() + _TRAILER


_LOCK_LIVE = """select id from memory_chunks where id = any($1) and live order by id for share"""


async def store(
    conn: Conn, space_id: int, column_type: str, rows: Rows, *, replace: bool = False, job_id: int | None = None
) -> int:
    """Store vectors of those chunks that are live; how many are new. In the caller's transaction.

    The chunks are locked against being superseded at the same time, so that a vector is never counted for one that
    is no longer live. A vector that is there already stays, or is replaced where `replace` says so.
    """
    found = await conn.fetch(_LOCK_LIVE, rows.chunk_ids.tolist())
    if len(found) < len(rows.chunk_ids):
        rows = rows.only([row["id"] for row in found])
    if not len(rows.chunk_ids):
        return 0
    stream = copy_stream(rows, column_type)
    if replace:
        return await _through_staging(conn, table(space_id), stream, replace=True)
    try:
        async with conn.transaction():
            await _copy(conn, table(space_id, job_id), stream)
    except (asyncpg.UniqueViolationError, asyncpg.ForeignKeyViolationError):
        return await _through_staging(conn, table(space_id, job_id), stream, replace=False)
    return len(rows.chunk_ids)


async def _copy(conn: Conn, name: str, stream: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(stream), _PIECE_BYTES):  # in between the loop has its turn
            yield stream[start : start + _PIECE_BYTES]

    await conn.copy_to_table(
        name, source=pieces(), columns=("chunk_id", "project_id", "embedding"), format="binary", timeout=COPY_SECONDS
    )


_CREATE_STAGING = """create temporary table {staging} (like {vectors}) on commit drop"""

_UNSTAGE = """
insert into {vectors} (chunk_id, project_id, embedding)
select s.chunk_id, s.project_id, s.embedding from {staging} s
join memory_chunks c on c.id = s.chunk_id and c.live order by s.chunk_id
on conflict (chunk_id) do nothing returning xmax = 0 as new
"""

_UNSTAGE_REPLACING = """
insert into {vectors} (chunk_id, project_id, embedding)
select s.chunk_id, s.project_id, s.embedding from {staging} s
join memory_chunks c on c.id = s.chunk_id and c.live order by s.chunk_id
on conflict (chunk_id) do update set embedding = excluded.embedding returning xmax = 0 as new
"""

_DROP_STAGING = """drop table {staging}"""


async def _through_staging(conn: Conn, name: str, stream: bytes, *, replace: bool) -> int:
    """COPY aborts as a whole on one row that is there already: such a batch takes a detour, which costs 40 % more."""
    names = {"vectors": name, "staging": f"staging_of_{name}"}
    await conn.execute(_CREATE_STAGING.format(**names))
    await _copy(conn, names["staging"], stream)
    rows = await conn.fetch((_UNSTAGE_REPLACING if replace else _UNSTAGE).format(**names))
    await conn.execute(_DROP_STAGING.format(**names))
    return sum(row["new"] for row in rows)


_COPY_FROM = """
insert into {vectors} (chunk_id, project_id, embedding)
select c.id, c.project_id, v.embedding from unnest($1::bigint[], $2::bigint[]) as w (id, source)
join memory_chunks c on c.id = w.id and c.live join {vectors} v on v.chunk_id = w.source
order by c.id for share of c on conflict (chunk_id) do nothing returning chunk_id
"""


async def copy_from(conn: Conn, space_id: int, sources: Mapping[int, int], job_id: int | None = None) -> list[int]:
    """Give chunks the vectors that others have (chunk → other), where they lack one; the chunks that got it."""
    rows = await conn.fetch(for_space(_COPY_FROM, space_id, job_id), list(sources.keys()), list(sources.values()))
    return [row["chunk_id"] for row in rows]


_EQUALS = """
with equals as (select d.id, d.project_id, v.embedding from memory_chunks f join {{vectors}} v on v.chunk_id = f.id
  join memory_chunks d on d.content_hash = f.content_hash and d.live and d.id <> f.id
  where f.id = any($1) and ($2::int is null or d.project_id = $2) and d.id > $3
  and ($5::bigint is null or d.id <= $5) order by d.id limit $4 for share of d),
given as (insert into {{vectors}} (chunk_id, project_id, embedding) select id, project_id, embedding from equals
  on conflict (chunk_id) do {clash} returning chunk_id, xmax = 0 as new)
select e.id, g.new from equals e left join given g on g.chunk_id = e.id order by e.id
"""

_GIVE_TO_EQUALS = _EQUALS.format(clash="nothing")

_REPLACE_OF_EQUALS = _EQUALS.format(clash="update set embedding = excluded.embedding")


@dataclass(frozen=True, slots=True)
class Given:
    """A slice of the chunks that have the same text as others."""

    chunks: dict[int, bool]
    """Those that got a vector, and whether they had none before."""
    last_id: int | None
    """The slice after this begins behind it; None where this is the last one."""


async def give_to_equals(
    conn: Conn,
    space_id: int,
    chunk_ids: Sequence[int],
    reach: Reach,
    within: tuple[int, int],
    *,
    replace: bool,
    job_id: int | None = None,
) -> Given:
    """Give the vectors of some chunks to live chunks with the same text that are in reach: to a slice of them.

    `within` says after which id the slice begins, and how long it is at most.
    """
    after_id, most = within
    statement = for_space(_REPLACE_OF_EQUALS if replace else _GIVE_TO_EQUALS, space_id, job_id)
    rows = await conn.fetch(statement, list(chunk_ids), reach.project_id, after_id, most, reach.upto_id)
    given = {row["id"]: row["new"] for row in rows if row["new"] is not None}
    return Given(given, rows[-1]["id"] if len(rows) == most else None)


_TABLES = """
select s.id, null as job_id from memory_embedding_spaces s
union all select j.space_id, j.id from memory_reembed_jobs j where j.state in ('running', 'paused') and j.replace
  and j.project_id is null and to_regclass('memory_vectors_' || j.space_id || '_job_' || j.id) is not null
order by 1
"""

_FORGET = """delete from {vectors} where chunk_id = any($1) returning 1"""

_FORGET_PENDING = """delete from memory_embedding_pending where chunk_id = any($1)"""

_FORGET_QUARANTINED = """delete from memory_embedding_quarantine where chunk_id = any($1)"""


async def forget(conn: Conn, chunk_ids: Sequence[int]) -> dict[int, int]:
    """Delete the vectors of chunks in every space, their pending and quarantine rows; counter changes by space."""
    ids = list(chunk_ids)
    deltas: dict[int, int] = {}
    for space_id, job_id in await conn.fetch(_TABLES):
        gone = await conn.fetch(for_space(_FORGET, space_id, job_id), ids)
        if job_id is None:
            deltas[space_id] = -len(gone)
    await conn.execute(_FORGET_PENDING, ids)
    await conn.execute(_FORGET_QUARANTINED, ids)
    return deltas


_COUNT = """select count(*) from {vectors}"""


async def count(conn: Conn, space_id: int) -> int:
    """Vectors in a table, counted one by one: for the moment before they are discarded."""
    return int(await conn.fetchval(for_space(_COUNT, space_id)))


_LOCK_FOR_DISCARD = """lock table memory_chunks, {vectors} in access exclusive mode"""


async def lock_for_discard(conn: Conn, space_id: int) -> None:
    """Wait, as long as lock_timeout allows, until nobody reads or writes a table and its chunks. Raises LockBusy.

    Dropping a table also takes the one that its foreign key leads to, so both are asked for before anything is done.
    """
    await conn.execute(for_space(_LOCK_FOR_DISCARD, space_id))


_SIZE = """select coalesce(pg_total_relation_size(to_regclass($1)), 0)"""


async def size(conn: Conn, space_id: int) -> int:
    """Bytes on disk of a table with its indexes."""
    return int(await conn.fetchval(_SIZE, table(space_id)))
