"""Vector tables, one per space, named after the space's id: narrow, and never altered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from memory_operator.store.pool import Conn

_COLUMN_TYPES = {"vector", "halfvec"}


def table(space_id: int) -> str:
    """Name of a space's vector table. The id is an integer of ours, so the name needs no quoting."""
    return f"memory_vectors_{int(space_id)}"


async def create_table(conn: Conn, space_id: int, column_type: str, dimensions: int) -> None:
    """Make an empty vector table. Its foreign key waits for open writers of chunks. Raises LockBusy."""
    if column_type not in _COLUMN_TYPES:
        raise ValueError(column_type)
    await conn.execute(
        f"create table {table(space_id)} ("
        " chunk_id bigint primary key references memory_chunks on delete cascade,"
        " project_id int not null,"
        f" embedding {column_type}({int(dimensions)}) not null)"
    )
    # In the row itself, which every dimension that can be indexed fits into: out of line, an exact scan takes 2.7
    # times as long and an index build 1.5 times.
    await conn.execute(f"alter table {table(space_id)} alter column embedding set storage plain")
    await conn.execute(f"create index {table(space_id)}_project on {table(space_id)} (project_id)")


async def insert(
    conn: Conn, space_id: int, column_type: str, chunk_ids: Sequence[int], embeddings: NDArray[np.float32]
) -> int:
    """Store vectors of live chunks that have none yet; how many were stored.

    `embeddings` has shape (len(chunk_ids), dimensions). The chunks are locked against being superseded at the
    same time, so that a vector is never counted for a chunk that is no longer live.
    """
    make: Any = HalfVector if column_type == "halfvec" else Vector
    rows = await conn.fetch(
        f"insert into {table(space_id)} (chunk_id, project_id, embedding)"
        " select c.id, c.project_id, v.embedding"
        f" from unnest($1::bigint[], $2::{column_type}[]) as v (chunk_id, embedding)"
        " join memory_chunks c on c.id = v.chunk_id and c.live"
        " order by c.id for share of c"
        " on conflict (chunk_id) do nothing returning 1",
        list(chunk_ids),
        [make(row) for row in embeddings],
    )
    return len(rows)


async def forget(conn: Conn, chunk_ids: Sequence[int]) -> dict[int, int]:
    """Delete the vectors of chunks in every space, their pending and quarantine rows; counter changes by space."""
    ids = list(chunk_ids)
    deltas: dict[int, int] = {}
    for (space_id,) in await conn.fetch("select id from memory_embedding_spaces order by id"):
        gone = await conn.fetch(f"delete from {table(space_id)} where chunk_id = any($1) returning 1", ids)
        deltas[space_id] = -len(gone)
    await conn.execute("delete from memory_embedding_pending where chunk_id = any($1)", ids)
    await conn.execute("delete from memory_embedding_quarantine where chunk_id = any($1)", ids)
    return deltas


async def count(conn: Conn, space_id: int) -> int:
    """Vectors in a table, counted one by one: for the moment before they are discarded."""
    return int(await conn.fetchval(f"select count(*) from {table(space_id)}"))


async def lock_for_discard(conn: Conn, space_id: int) -> None:
    """Wait, as long as lock_timeout allows, until nobody reads or writes a table and its chunks. Raises LockBusy.

    Dropping a table also takes the one that its foreign key leads to, so both are asked for before anything is done.
    """
    await conn.execute(f"lock table memory_chunks, {table(space_id)} in access exclusive mode")


async def size(conn: Conn, space_id: int) -> int:
    """Bytes on disk of a table with its indexes."""
    return int(await conn.fetchval("select coalesce(pg_total_relation_size(to_regclass($1)), 0)", table(space_id)))
