"""How the work on vectors goes on: who fills, what waits for how long, and what was left behind."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.store.db import locks
from memory_operator.store.db.pool import Conn, fetch_one

_WORKERS = """
select count(*) from pg_locks where locktype = 'advisory' and classid = $1::bigint and granted
and database = (select d.oid from pg_database d where d.datname = current_database())
"""


async def workers(conn: Conn) -> int:
    """How many workers show that they are alive."""
    return int(await conn.fetchval(_WORKERS, locks.WORKERS))


@dataclass(frozen=True, slots=True)
class PendingAge:
    """Chunks of a space that wait for a vector outside a fill."""

    space_id: int
    chunks: int
    seconds: float
    """Since when the oldest one does."""


_WAITING = """
select w.space_id, count(*) as chunks, extract(epoch from now() - min(w.since))::float8 as seconds
from memory_embedding_pending w group by w.space_id
"""


async def waiting(conn: Conn) -> dict[int, PendingAge]:
    """What waits, by space."""
    return {row["space_id"]: PendingAge(**dict(row)) for row in await conn.fetch(_WAITING)}


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of chunk ids, by who has them."""

    claimed: int
    """By a worker that was heard of lately."""
    expired: int
    """By one that was not heard of for a minute: any other worker would have claimed them."""
    ended: int
    """Of jobs that have ended."""


_RANGES = """
select count(*) filter (where l.state = 'leased' and l.expires_at > now()) as claimed,
  count(*) filter (where l.state = 'leased' and l.expires_at < now() - interval '1 minute'
    and j.state in ('running', 'paused')) as expired,
  count(*) filter (where j.state in ('done', 'cancelled') and j.finished_at < now() - interval '5 minutes') as ended
from memory_reembed_leases l join memory_reembed_jobs j on j.id = l.job_id
"""


async def ranges(conn: Conn) -> Ranges:
    """All ranges that there are."""
    return Ranges(**dict(await fetch_one(conn, _RANGES)))


_LEFT_BEHIND = r"""
select c.relname as name, pg_total_relation_size(c.oid) as bytes from pg_class c
where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
and c.relname ~ '^memory_vectors_\d+(_job_\d+)?$'
and (not exists (select from memory_embedding_spaces s where s.id = substring(c.relname from '\d+')::bigint)
  or (c.relname like '%\_job\_%' and not exists (select from memory_reembed_jobs j
    where j.id = substring(c.relname from '_job_(\d+)$')::bigint and j.state in ('running', 'paused'))))
order by 1
"""


async def tables_left_behind(conn: Conn) -> dict[str, int]:
    """Tables of vectors that belong to no space, and to no job that is open; with their bytes."""
    return {row["name"]: row["bytes"] for row in await conn.fetch(_LEFT_BEHIND)}
