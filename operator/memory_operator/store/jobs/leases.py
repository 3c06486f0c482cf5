"""Leases of ranges: the right to fill some chunks of a space, fenced by a token, until another worker takes it over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from memory_operator.errors import LeaseLost
from memory_operator.store.db import locks
from memory_operator.store.db.pool import Conn, fetch_one

LEASE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to fill (after_id, upto_id] of a space."""

    id: int
    job_id: int
    after_id: int
    upto_id: int
    token: UUID


@dataclass(frozen=True, slots=True)
class Backend:
    """A session of the database server; the start tells it from a later one with the same process id."""

    pid: int
    start: datetime


RETURNS_SECONDS = 3
"""A worker whose lock is gone, but who was heard of so lately, may be coming back: the server may have restarted."""

_GONE = (
    "({lease}.expires_at < now() or ({lease}.expires_at < now() + make_interval(secs => {patience})"
    " and {lease}.presence not in"
    " (select objid::bigint from pg_locks where locktype = 'advisory' and classid = {workers} and granted)))"
)
"""Whether a lease's worker is gone or silent."""


_BACKEND_OF = """select pid, backend_start as start from pg_stat_activity where pid = pg_backend_pid()"""


async def backend_of(conn: Conn) -> Backend:
    """The session behind a connection."""
    row = await fetch_one(conn, _BACKEND_OF)
    return Backend(**dict(row))


_END_SESSION = """select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2"""


async def end_session(conn: Conn, backend: Backend) -> None:
    """End a session that a client has left: the server may go on with its last statement, and with its locks."""
    await conn.execute(_END_SESSION, backend.pid, backend.start)


_END_STALE_WRITERS = f"""
select pg_terminate_backend(a.pid) from memory_reembed_leases l
join pg_stat_activity a on a.pid = l.backend_pid and a.backend_start = l.backend_start
where l.state = 'leased' and {_GONE.format(lease="l", workers="$1", patience="$2")} group by a.pid
"""


async def end_stale_writers(conn: Conn) -> int:
    """End the sessions that write for ranges whose worker is gone or silent; how many were ended.

    A client that was stopped in the middle of a COPY holds its rows, and the range, for as long as it sleeps.
    """
    ended = await conn.fetch(_END_STALE_WRITERS, locks.WORKERS, LEASE_SECONDS - RETURNS_SECONDS)
    return len(ended)


_CLAIM = f"""
with free as (select c.id from memory_reembed_leases c join memory_reembed_jobs k on k.id = c.job_id
  where k.id = $1 and k.state = 'running'
  and (c.state = 'open' or {_GONE.format(lease="c", workers="$5", patience="$8")})
  order by c.after_id for update of c skip locked limit 1)
update memory_reembed_leases l set state = 'leased', token = gen_random_uuid(), worker = $2,
presence = $3, expires_at = now() + make_interval(secs => $4), backend_pid = $6, backend_start = $7
from free where l.id = free.id returning l.id, l.job_id, l.after_id, l.upto_id, l.token
"""


async def claim(conn: Conn, job_id: int, worker: str, presence: int, backend: Backend) -> Lease | None:
    """Take a range that nobody walks: its worker is gone, or has not been heard of for LEASE_SECONDS.

    `presence` is the key of the lock by which this worker shows that it is alive, `backend` the session it writes by.
    """
    await end_stale_writers(conn)
    row = await conn.fetchrow(
        _CLAIM,
        job_id,
        worker,
        presence,
        LEASE_SECONDS,
        locks.WORKERS,
        backend.pid,
        backend.start,
        LEASE_SECONDS - RETURNS_SECONDS,
    )
    return Lease(**dict(row)) if row else None


_CLAIMABLE = f"""
select distinct j.space_id from memory_reembed_jobs j join memory_reembed_leases l on l.job_id = j.id
where j.state = 'running' and j.space_id is not null and (l.state = 'open'
or {_GONE.format(lease="l", workers="$1", patience="$2")})
"""


async def claimable(conn: Conn) -> set[int]:
    """Spaces with a range that nobody walks, of a job that runs."""
    rows = await conn.fetch(_CLAIMABLE, locks.WORKERS, LEASE_SECONDS - RETURNS_SECONDS)
    return {row["space_id"] for row in rows}


_RENEW = """
update memory_reembed_leases l set expires_at = now() + make_interval(secs => $3),
backend_pid = $4, backend_start = $5
from unnest($1::bigint[], $2::uuid[]) as f (id, token) where l.id = f.id and l.token = f.token
returning l.id
"""


async def renew(conn: Conn, leases: Sequence[Lease], backend: Backend) -> frozenset[int]:
    """Say that ranges are still being walked, and by which session; ids of those that are lost."""
    kept = await conn.fetch(
        _RENEW,
        [lease.id for lease in leases],
        [lease.token for lease in leases],
        LEASE_SECONDS,
        backend.pid,
        backend.start,
    )
    return frozenset(lease.id for lease in leases) - {row["id"] for row in kept}


_FENCE = """
update memory_reembed_leases l set expires_at = now() + make_interval(secs => $3)
from unnest($1::bigint[], $2::uuid[]) as f (id, token) where l.id = f.id and l.token = f.token
returning l.id
"""


async def fence(conn: Conn, leases: Collection[Lease]) -> None:
    """The last but one statement of a writer's transaction: it may commit only while the leases are its own.

    Raises LeaseLost: do not commit.
    """
    if not leases:
        return
    kept = await conn.fetch(_FENCE, [lease.id for lease in leases], [lease.token for lease in leases], LEASE_SECONDS)
    lost = {lease.id for lease in leases} - {row["id"] for row in kept}
    if lost:
        raise LeaseLost(lost)


_FINISH = """
delete from memory_reembed_leases l using unnest($1::bigint[], $2::uuid[]) as f (id, token)
where l.id = f.id and l.token = f.token returning l.id
"""


async def finish(conn: Conn, leases: Sequence[Lease]) -> set[int]:
    """Remove ranges that have been walked to their end; ids of those that are another worker's by now."""
    if not leases:
        return set()
    gone = await conn.fetch(_FINISH, [lease.id for lease in leases], [lease.token for lease in leases])
    return {lease.id for lease in leases} - {row["id"] for row in gone}


_END_CANCELLED = """
delete from memory_reembed_leases l using unnest($1::bigint[], $2::uuid[]) as f (id, token),
memory_reembed_jobs j where l.id = f.id and l.token = f.token and j.id = l.job_id and j.state = 'cancelled'
"""

_RELEASE = """
update memory_reembed_leases l set state = 'open', token = null, expires_at = null, backend_pid = null,
backend_start = null from unnest($1::bigint[], $2::uuid[]) as f (id, token)
where l.id = f.id and l.token = f.token
"""


async def release(conn: Conn, leases: Collection[Lease]) -> None:
    """Give ranges back, to be claimed again at once; those of a job that was cancelled end."""
    ids, tokens = [lease.id for lease in leases], [lease.token for lease in leases]
    await conn.execute(_END_CANCELLED, ids, tokens)
    await conn.execute(_RELEASE, ids, tokens)


_SWEEP = """
delete from memory_reembed_leases l using memory_reembed_jobs j where j.id = l.job_id
and j.state in ('cancelled', 'done') and (l.state = 'open' or l.expires_at < now())
"""


async def sweep(conn: Conn) -> None:
    """Remove the ranges of ended jobs whose worker will not come back for them."""
    await conn.execute(_SWEEP)


_RELEASE_EXPIRED = """
with expired as (select l.id from memory_reembed_leases l where l.state = 'leased' and l.expires_at < now()
  for update skip locked)
update memory_reembed_leases l set state = 'open', token = null, expires_at = null, backend_pid = null,
backend_start = null from expired where l.id = expired.id returning l.id
"""


async def release_expired(conn: Conn) -> int:
    """Free the ranges whose worker was not heard of in time, after its session was ended; how many there were."""
    await end_stale_writers(conn)
    await sweep(conn)
    return len(await conn.fetch(_RELEASE_EXPIRED))
