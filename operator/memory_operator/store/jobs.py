"""Re-embed jobs and their leases: ranges of chunk ids, each walked by one worker at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from memory_operator.errors import Conflict
from memory_operator.store import locks, registry, vectors
from memory_operator.store.pool import Conn

CHANNEL = "memory_work"
"""NOTIFY channel that wakes workers."""

RANGE_IDS = 2_000
LEASE_SECONDS = 30
_CIPHER_BYTES = 29
"""Format, nonce and tag that encryption adds to a text."""


@dataclass(frozen=True, slots=True)
class Job:
    """One fill of one space."""

    id: int
    space_id: int
    state: str
    bound: int
    """Highest chunk id that the walk covers; what came later is found at the switch."""
    total: int
    done: int
    tokens: int | None
    created_at: datetime
    first_call_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to fill (after_id, upto_id] of a space, until another worker takes it over."""

    id: int
    job_id: int
    space_id: int
    after_id: int
    upto_id: int
    token: UUID


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk to embed, still encrypted, with what decrypts it."""

    id: int
    text: bytes
    ordinal: int
    canonical_id: UUID
    version_no: int
    tenant_id: int
    tenant: str


class LeaseLost(Conflict):
    """Another worker has taken this range over."""


_JOB = "j.id, j.space_id, j.state, j.bound, j.total, j.done, j.tokens, j.created_at, j.first_call_at, j.finished_at"
_CHUNK = (
    "c.id, c.text, c.ordinal, e.canonical_id, e.version_no, t.id as tenant_id, t.name as tenant"
    " from memory_chunks c join memory_entries e on e.id = c.entry_id"
    " join memory_projects p on p.id = c.project_id join memory_tenants t on t.id = p.tenant_id"
)


def _job(row: Any) -> Job:
    return Job(**dict(row))


async def start(conn: Conn, space_id: int) -> int:
    """Begin the fill of a space, unless one is open; the job's id.

    The registry is held for the switch: every writer that did not know of this space has committed, so the bound
    covers all that they wrote, and whatever is written later is written with the space in mind.
    """
    existing = await conn.fetchval(
        "select id from memory_reembed_jobs where space_id = $1 and state in ('running', 'paused')", space_id
    )
    if existing is not None:
        return int(existing)
    counted = await registry.counted(conn)
    missing = max(0, counted.get(registry.CHUNKS, 0) - counted.get(space_id, 0))
    job_id = await conn.fetchval(
        "insert into memory_reembed_jobs (space_id, bound, total)"
        " values ($1, coalesce((select max(id) from memory_chunks), 0), $2) returning id",
        space_id,
        missing,
    )
    await conn.execute(
        "insert into memory_reembed_leases (job_id, after_id, upto_id)"
        " select j.id, lo, least(lo + $2, j.bound) from memory_reembed_jobs j,"
        " lateral (select coalesce(min(id), 1) - 1 as first from memory_chunks where live) f,"
        " generate_series(f.first, j.bound - 1, $2) as lo where j.id = $1",
        job_id,
        RANGE_IDS,
    )
    await wake(conn)
    return int(job_id)


async def estimated_tokens(conn: Conn) -> int:
    """Tokens of all live chunks at four bytes a token, from the average of the newest thousand."""
    counted = await registry.counted(conn)
    average = await conn.fetchval(
        "select avg(octet_length(text) - $1)::float8 from"
        " (select text from memory_chunks where live order by id desc limit 1000) newest",
        _CIPHER_BYTES,
    )
    return round(counted.get(registry.CHUNKS, 0) * max(1.0, (average or 0.0) / 4))


async def wake(conn: Conn) -> None:
    """Tell the workers, once this transaction commits, that there is something to do."""
    await conn.execute("select pg_notify($1, '')", CHANNEL)


async def cancel(conn: Conn, space_id: int) -> None:
    """End the open job of a space without completing it."""
    # The ranges before the job, as the workers take them that are in the middle of a batch: else both wait for ever.
    await conn.execute(
        "delete from memory_reembed_leases where job_id in"
        " (select id from memory_reembed_jobs where space_id = $1 and state in ('running', 'paused'))",
        space_id,
    )
    await conn.execute(
        "update memory_reembed_jobs set state = 'cancelled', finished_at = now()"
        " where space_id = $1 and state in ('running', 'paused')",
        space_id,
    )


async def claim(conn: Conn, worker: str, presence: int) -> Lease | None:
    """Take a range that nobody walks: its worker is gone, or has not been heard of for LEASE_SECONDS.

    `presence` is the key of the lock by which this worker shows that it is alive.
    """
    row = await conn.fetchrow(
        "with alive as (select objid::bigint as key from pg_locks"
        "   where locktype = 'advisory' and classid = $4 and granted),"
        " free as (select c.id from memory_reembed_leases c join memory_reembed_jobs k on k.id = c.job_id"
        "   where k.state = 'running' and (k.retry_at is null or k.retry_at < now())"
        "   and (c.state = 'open' or (c.state = 'leased'"
        "     and (c.expires_at < now() or c.presence not in (select key from alive))))"
        "   order by c.job_id, c.after_id for update of c skip locked limit 1)"
        " update memory_reembed_leases l set state = 'leased', token = gen_random_uuid(), worker = $1,"
        " presence = $3, expires_at = now() + make_interval(secs => $2)"
        " from memory_reembed_jobs j, free where j.id = l.job_id and l.id = free.id"
        " returning l.id, l.job_id, j.space_id, l.after_id, l.upto_id, l.token",
        worker,
        LEASE_SECONDS,
        presence,
        locks.WORKERS,
    )
    return Lease(**dict(row)) if row else None


async def release(conn: Conn, lease: Lease) -> None:
    """Give a range back, to be claimed again at once."""
    await conn.execute(
        "update memory_reembed_leases set state = 'open', token = null, expires_at = null where id = $1 and token = $2",
        lease.id,
        lease.token,
    )


async def renew(conn: Conn, lease: Lease) -> None:
    """Say that a range is still being walked. Raises LeaseLost."""
    await _fenced(
        conn,
        "update memory_reembed_leases set expires_at = now() + make_interval(secs => $3)"
        " where id = $1 and token = $2 returning true",
        lease,
        LEASE_SECONDS,
    )


async def advance(conn: Conn, lease: Lease, after_id: int, done: int, tokens: int | None) -> None:
    """Move a range's start past what was just stored, in the same transaction. Raises LeaseLost: do not commit."""
    await _fenced(
        conn,
        "update memory_reembed_leases set after_id = $3, expires_at = now() + make_interval(secs => $4)"
        " where id = $1 and token = $2 returning true",
        lease,
        after_id,
        LEASE_SECONDS,
    )
    await conn.execute(
        "update memory_reembed_jobs set done = done + $2,"
        " tokens = case when $3::bigint is null then tokens else coalesce(tokens, 0) + $3 end,"
        " first_call_at = coalesce(first_call_at, now()), failures = 0, retry_at = null where id = $1",
        lease.job_id,
        done,
        tokens,
    )


async def finish_range(conn: Conn, lease: Lease) -> None:
    """Remove a range that has been walked to its end. Raises LeaseLost."""
    await _fenced(conn, "delete from memory_reembed_leases where id = $1 and token = $2 returning true", lease)


async def postpone(conn: Conn, job_id: int, seconds: float | None) -> None:
    """Let a job rest after a call that failed: as long as the vendor asks, else doubling from 0.5 to 5 s."""
    await conn.execute(
        "update memory_reembed_jobs set failures = failures + 1, retry_at = now() + make_interval(secs =>"
        " coalesce($2::float8, least(5.0, 0.5 * 2 ^ least(failures, 6)))) where id = $1",
        job_id,
        seconds,
    )


async def _fenced(conn: Conn, statement: str, lease: Lease, *values: Any) -> None:
    if not await conn.fetchval(statement, lease.id, lease.token, *values):
        raise LeaseLost(f"the range after chunk {lease.after_id} is walked by another worker now")


async def missing_in_range(conn: Conn, lease: Lease, after_id: int, limit: int) -> list[StoredChunk]:
    """The next live chunks of a range that have no vector and are not in quarantine, by id."""
    rows = await conn.fetch(
        f"select {_CHUNK} where c.live and c.id > $1 and c.id <= $2"
        f" and not exists (select 1 from {vectors.table(lease.space_id)} v where v.chunk_id = c.id)"
        " and not exists (select 1 from memory_embedding_quarantine q where q.space_id = $4 and q.chunk_id = c.id)"
        " order by c.id limit $3",
        after_id,
        lease.upto_id,
        limit,
        lease.space_id,
    )
    return [StoredChunk(**dict(row)) for row in rows]


async def pending_chunks(conn: Conn, space_id: int, limit: int) -> list[StoredChunk]:
    """Live chunks that were stored without a vector, the oldest first."""
    rows = await conn.fetch(
        f"select {_CHUNK} join memory_embedding_pending w on w.chunk_id = c.id"
        " where w.space_id = $1 and c.live order by c.id limit $2",
        space_id,
        limit,
    )
    return [StoredChunk(**dict(row)) for row in rows]


async def settle_pending(conn: Conn, space_id: int, chunk_ids: list[int]) -> None:
    """Chunks that have their vector now, or are in quarantine, wait no longer."""
    await conn.execute(
        "delete from memory_embedding_pending where space_id = $1 and chunk_id = any($2)", space_id, chunk_ids
    )


async def quarantine(conn: Conn, space_id: int, chunk_id: int, reason: str) -> None:
    """Put a chunk that an embedder refuses out of the way of the others."""
    await conn.execute(
        "insert into memory_embedding_quarantine as q (space_id, chunk_id, reason)"
        " select $1, c.id, $3 from memory_chunks c where c.id = $2 and c.live for share"
        " on conflict (space_id, chunk_id) do update set reason = excluded.reason, attempts = q.attempts + 1",
        space_id,
        chunk_id,
        reason,
    )


async def walked(conn: Conn) -> list[Job]:
    """Running jobs without a range left: ready to be completed."""
    rows = await conn.fetch(
        f"select {_JOB} from memory_reembed_jobs j where j.state = 'running'"
        " and not exists (select 1 from memory_reembed_leases l where l.job_id = j.id) order by j.id"
    )
    return [_job(row) for row in rows]


async def latest(conn: Conn) -> dict[int, Job]:
    """The newest job of each space."""
    rows = await conn.fetch(
        f"select distinct on (j.space_id) {_JOB} from memory_reembed_jobs j order by j.space_id, j.id desc"
    )
    return {row["space_id"]: _job(row) for row in rows}


async def finish(conn: Conn, job_id: int) -> bool:
    """The space has all that it can have; False when the job is no longer running."""
    return bool(
        await conn.fetchval(
            "update memory_reembed_jobs set state = 'done', finished_at = now()"
            " where id = $1 and state = 'running' returning true",
            job_id,
        )
    )


async def ask_for_late(conn: Conn, space_id: int, bound: int) -> int:
    """Mark as pending every live chunk above a fill's bound that lacks a vector; how many are missing.

    The registry is held for the switch, so no chunk can appear while this looks.
    """
    return int(
        await conn.fetchval(
            "with late as ("
            " select c.id from memory_chunks c where c.live and c.id > $2"
            f" and not exists (select 1 from {vectors.table(space_id)} v where v.chunk_id = c.id)"
            " and not exists (select 1 from memory_embedding_quarantine q"
            "   where q.space_id = $1 and q.chunk_id = c.id)),"
            " asked as (insert into memory_embedding_pending (space_id, chunk_id) select $1, id from late"
            "   on conflict do nothing)"
            " select (select count(*) from late) + (select count(*) from memory_embedding_pending w"
            "   join memory_chunks c on c.id = w.chunk_id and c.live"
            "   where w.space_id = $1 and not exists (select 1 from late where late.id = w.chunk_id))",
            space_id,
            bound,
        )
    )


async def note_trouble(conn: Conn, space_id: int, code: str | None, trouble: str | None) -> None:
    """Keep why a space's embedder gives no vectors, None when it does again; the operator is told of a change."""
    await conn.execute(
        "with changed as (update memory_embedding_spaces set trouble_code = $2, trouble = $3"
        "  where id = $1 and trouble is distinct from $3 returning 1)"
        " select pg_notify($4, '') from changed",
        space_id,
        code,
        trouble,
        registry.CHANNEL,
    )


async def troubles(conn: Conn) -> dict[int, tuple[str, str]]:
    """Spaces whose embedder gives no vectors at the moment: code and text by space."""
    rows = await conn.fetch("select id, trouble_code, trouble from memory_embedding_spaces where trouble is not null")
    return {row["id"]: (row["trouble_code"], row["trouble"]) for row in rows}
