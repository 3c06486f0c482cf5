"""Quarantine: chunks that an embedder refuses, with the reason, out of the way of the others."""

from __future__ import annotations

from collections.abc import Mapping

from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces import vectors

_PUT = """
insert into memory_embedding_quarantine as q (space_id, chunk_id, reason)
select $1, d.id, u.reason from (select distinct on (e.id) e.id, w.reason
  from unnest($2::bigint[], $3::text[]) as w (id, reason) join memory_chunks f on f.id = w.id
  join memory_chunks e on e.content_hash = f.content_hash and e.live
  and not exists (select 1 from {vectors} v where v.chunk_id = e.id)) u
join memory_chunks d on d.id = u.id and d.live order by d.id for share of d
on conflict (space_id, chunk_id) do update set reason = excluded.reason, attempts = q.attempts + 1,
since = now() returning chunk_id, xmax = 0 as new
"""

_END_PENDING = """delete from memory_embedding_pending where space_id = $1 and chunk_id = any($2)"""


async def put(conn: Conn, space_id: int, reasons: Mapping[int, str]) -> int:
    """Put live chunks into quarantine, and those with the same text that have no vector; how many are new there."""
    rows = await conn.fetch(vectors.for_space(_PUT, space_id), space_id, list(reasons.keys()), list(reasons.values()))
    await conn.execute(_END_PENDING, space_id, [row["chunk_id"] for row in rows])
    return sum(row["new"] for row in rows)


_REASONS = """
select chunk_id, reason from memory_embedding_quarantine where space_id = $1 and chunk_id = any($2)
"""


async def reasons(conn: Conn, space_id: int, chunk_ids: list[int]) -> dict[int, str]:
    """Why some chunks are in quarantine, by chunk; those that are not are absent."""
    rows = await conn.fetch(_REASONS, space_id, chunk_ids)
    return {row["chunk_id"]: row["reason"] for row in rows}
