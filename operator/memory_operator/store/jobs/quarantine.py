"""Quarantine: chunks that an embedder refuses, with the reason, out of the way of the others; each is tried again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces import vectors

_PUT = """
insert into memory_embedding_quarantine as q (space_id, chunk_id, reason, retry_at)
select $1, d.id, u.reason, case when u.final then 'infinity' else now() + interval '1 minute' end
from (select distinct on (e.id) e.id, w.reason, w.id = any($4) as final
  from unnest($2::bigint[], $3::text[]) as w (id, reason) join memory_chunks f on f.id = w.id
  join memory_chunks e on e.content_hash = f.content_hash and e.live
  and not exists (select 1 from {vectors} v where v.chunk_id = e.id)) u
join memory_chunks d on d.id = u.id and d.live order by d.id for share of d
on conflict (space_id, chunk_id) do update set reason = excluded.reason, attempts = q.attempts + 1, since = now(),
retry_at = case when excluded.retry_at = 'infinity' then excluded.retry_at
  else now() + least(interval '1 day', interval '1 minute' * 2 ^ least(q.attempts, 11)) end
returning chunk_id, xmax = 0 as new
"""

_END_PENDING = """delete from memory_embedding_pending where space_id = $1 and chunk_id = any($2)"""


async def put(conn: Conn, space_id: int, reasons: Mapping[int, str], final: Collection[int] = ()) -> int:
    """Put live chunks into quarantine, and those with the same text that have no vector; how many are new there.

    They are tried again after a minute, then after a pause that doubles up to a day; those of `final` are not.
    """
    ids, texts = list(reasons.keys()), list(reasons.values())
    rows = await conn.fetch(vectors.for_space(_PUT, space_id), space_id, ids, texts, list(final))
    await conn.execute(_END_PENDING, space_id, [row["chunk_id"] for row in rows])
    return sum(row["new"] for row in rows)


_TAKE_DUE = """
with due as (select chunk_id from memory_embedding_quarantine where space_id = $1 and retry_at < now()
  order by retry_at limit $2 for update skip locked)
update memory_embedding_quarantine q
set retry_at = now() + least(interval '1 day', interval '1 minute' * 2 ^ least(q.attempts, 11))
from due where q.space_id = $1 and q.chunk_id = due.chunk_id returning q.chunk_id
"""


async def take_due(conn: Conn, space_id: int, limit: int) -> list[int]:
    """Take chunks whose next try is due; where that comes to nothing they are due again after a pause."""
    return [row["chunk_id"] for row in await conn.fetch(_TAKE_DUE, space_id, limit)]


_DUE = """
select s.id from unnest($1::bigint[]) as s (id)
where exists (select 1 from memory_embedding_quarantine q where q.space_id = s.id and q.retry_at < now())
"""


async def due(conn: Conn, space_ids: Collection[int]) -> set[int]:
    """Those of some spaces that have a chunk whose next try is due."""
    return {row["id"] for row in await conn.fetch(_DUE, list(space_ids))}


_TAKE_OUT = """delete from memory_embedding_quarantine where space_id = $1 and chunk_id = any($2)"""


async def take_out(conn: Conn, space_id: int, chunk_ids: Collection[int]) -> None:
    """Chunks that have a vector now, or are gone, are refused no longer."""
    await conn.execute(_TAKE_OUT, space_id, list(chunk_ids))


_REASONS = """
select chunk_id, reason from memory_embedding_quarantine where space_id = $1 and chunk_id = any($2)
"""


async def reasons(conn: Conn, space_id: int, chunk_ids: list[int]) -> dict[int, str]:
    """Why some chunks are in quarantine, by chunk; those that are not are absent."""
    rows = await conn.fetch(_REASONS, space_id, chunk_ids)
    return {row["chunk_id"]: row["reason"] for row in rows}
