"""Quarantine: chunks that an embedder refuses, with the reason, out of the way of the others; each is tried again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces import vectors
from memory_operator.store.spaces.vectors import EVERYWHERE, Reach

_PAUSE = "least(interval '1 day', interval '1 minute' * 2 ^ least(q.attempts, 11))"
"""How long a refused chunk `q` waits for its next try: a minute, doubled with each one, up to a day."""

_PUT = f"""
insert into memory_embedding_quarantine as q (space_id, chunk_id, reason, retry_at)
select $1, d.id, u.reason, case when u.final then 'infinity' else now() + interval '1 minute' end
from (select distinct on (e.id) e.id, w.reason, w.id = any($4) as final
  from unnest($2::bigint[], $3::text[]) as w (id, reason) join memory_chunks f on f.id = w.id
  join memory_chunks e on e.content_hash = f.content_hash and e.live
  and ($5::int is null or e.project_id = $5) and ($6::bigint is null or e.id <= $6)
  and not exists (select 1 from {{vectors}} v where v.chunk_id = e.id)) u
join memory_chunks d on d.id = u.id and d.live order by d.id for share of d
on conflict (space_id, chunk_id) do update set reason = excluded.reason, attempts = q.attempts + 1, since = now(),
retry_at = case when excluded.retry_at = 'infinity' then excluded.retry_at else now() + {_PAUSE} end
returning chunk_id, xmax = 0 as new
"""

_END_PENDING = """delete from memory_embedding_pending where space_id = $1 and chunk_id = any($2)"""


async def put(
    conn: Conn,
    space_id: int,
    reasons: Mapping[int, str],
    final: Collection[int] = (),
    reach: Reach = EVERYWHERE,
) -> int:
    """Put live chunks into quarantine that have no vector, and those with the same text; how many are new there.

    They are tried again after a minute, then after a pause that doubles up to a day; those of `final` are not.
    """
    ids, texts = list(reasons.keys()), list(reasons.values())
    rows = await conn.fetch(vectors.for_space(_PUT, space_id), space_id, ids, texts, list(final), *reach)
    await conn.execute(_END_PENDING, space_id, [row["chunk_id"] for row in rows])
    return sum(row["new"] for row in rows)


_TAKE_DUE = f"""
with due as (select chunk_id from memory_embedding_quarantine where space_id = $1 and retry_at < now()
  order by retry_at limit $2 for update skip locked)
update memory_embedding_quarantine q
set retry_at = now() + {_PAUSE}
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


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A chunk that the embedder of a space refuses."""

    space_id: int
    chunk_id: int
    embedding_version: str
    namespace: str
    provider: str
    memory_id: UUID
    version_no: int
    ordinal: int
    project: str
    reason: str
    attempts: int
    since: datetime
    retry_at: datetime | None
    """None: not by itself."""


_PAGE = """
select q.space_id, q.chunk_id, s.embedding_version, s.provider_namespace as namespace, s.provider_name as provider,
  e.canonical_id as memory_id, e.version_no, c.ordinal, p.slug as project, q.reason, q.attempts, q.since,
  nullif(q.retry_at, 'infinity') as retry_at
from memory_embedding_quarantine q
join memory_embedding_spaces s on s.id = q.space_id
join memory_chunks c on c.id = q.chunk_id
join memory_entries e on e.id = c.entry_id
join memory_projects p on p.id = c.project_id
join memory_tenants t on t.id = p.tenant_id
where s.provider_namespace = any($1) and ($2::text is null or t.name = $2)
and ($3::text is null or s.embedding_version = $3) and ($4::bigint is null or (q.chunk_id, q.space_id) < ($4, $5))
order by q.chunk_id desc, q.space_id desc limit $6
"""


async def page(
    conn: Conn,
    namespaces: Collection[str],
    tenant: str | None,
    embedding_version: str | None,
    before: tuple[int, int] | None,
    limit: int,
) -> list[Quarantined]:
    """Refused chunks of spaces of some namespaces, of one tenant or of all, newest first.

    `before` is the chunk and the space of the last one seen.
    """
    chunk_id, space_id = before or (None, None)
    rows = await conn.fetch(_PAGE, list(namespaces), tenant, embedding_version, chunk_id, space_id, limit)
    return [Quarantined(**dict(row)) for row in rows]


_REQUEUE = """
delete from memory_embedding_quarantine q
using unnest($1::bigint[], $2::bigint[]) as w (chunk_id, space_id), memory_embedding_spaces s, memory_chunks c,
  memory_projects p, memory_tenants t
where q.chunk_id = w.chunk_id and q.space_id = w.space_id and s.id = q.space_id and c.id = q.chunk_id
and p.id = c.project_id and t.id = p.tenant_id and s.provider_namespace = any($3) and ($4::text is null or t.name = $4)
returning q.space_id, q.chunk_id
"""

_PUT_BACK = """
insert into memory_embedding_pending (space_id, chunk_id)
select $1, c.id from memory_chunks c where c.id = any($2) and c.live order by c.id for share
on conflict do nothing
"""


async def put_back(conn: Conn, space_id: int, chunk_ids: Collection[int]) -> None:
    """Leave chunks that are still live to the workers, ahead of any range."""
    await conn.execute(_PUT_BACK, space_id, list(chunk_ids))


async def requeue(
    conn: Conn, chosen: Sequence[tuple[int, int]], namespaces: Collection[str], tenant: str | None
) -> int:
    """Leave chosen chunks (chunk, space) to the workers once more, where a caller may; how many."""
    chunk_ids, space_ids = [chunk for chunk, _ in chosen], [space for _, space in chosen]
    rows = await conn.fetch(_REQUEUE, chunk_ids, space_ids, list(namespaces), tenant)
    for space_id in sorted({row["space_id"] for row in rows}):
        await put_back(conn, space_id, [row["chunk_id"] for row in rows if row["space_id"] == space_id])
    return len(rows)


_COUNTED = """
select space_id, count(*) as n from memory_embedding_quarantine
where $1::bigint[] is null or space_id = any($1)
group by space_id
"""


async def counted(conn: Conn, space_ids: Sequence[int] | None = None) -> dict[int, int]:
    """Quarantined live chunks of some spaces, or of all, by space."""
    rows = await conn.fetch(_COUNTED, space_ids)
    return {row["space_id"]: row["n"] for row in rows}
