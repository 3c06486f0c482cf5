"""Memories whose chunks are made anew: the job that walks them, what it reads, and how chunks are replaced.

The order inside a transaction is that of `store/memories.py`: the registry, the memory, its chunks by id, the counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.jobs.jobs import wake
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import Space

RANGE_MEMORIES = 500

_EXHAUSTED = "e.current and not e.tombstone and e.input is not null and ($1::int is null or e.project_id = $1)"


@dataclass(frozen=True, slots=True)
class CutMemory:
    """The current version of a memory, sealed, and how it is cut now."""

    id: int
    canonical_id: UUID
    version_no: int
    project_id: int
    tenant: str
    input: bytes
    summary: bytes | None
    tags: Sequence[str]
    hashes: Sequence[bytes]
    """Content hashes of its chunks, in their order."""
    up_to_date: bool
    """Whether all of them were cut by the versions asked for."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How many memories there are in a project, or in the whole store."""

    memories: int
    outdated: int
    """Those with a chunk that was cut by another version of the chunker or of the preprocessing."""


_SCOPE = f"""
select (select count(*) from memory_entries e where {_EXHAUSTED}) as memories,
(select count(distinct c.entry_id) from memory_chunks c where c.live
  and ($1::int is null or c.project_id = $1)
  and (c.chunker_version, c.preprocessing_version) <> ($2::int, $3::int)) as outdated
"""


async def scope(conn: Conn, project_id: int | None, versions: tuple[int, int]) -> Scope:
    """Count memories, without reading any text."""
    row = await fetch_one(conn, _SCOPE, project_id, *versions)
    return Scope(**dict(row))


_START = """
insert into memory_reembed_jobs (kind, project_id, bound, total, requested_by) values ('reindex', $1,
coalesce((select max(id) from memory_entries), 0), $2, $3) returning id
"""

_START_RANGES = """
insert into memory_reembed_leases (job_id, after_id, upto_id)
select j.id, lo, least(lo + $2, j.bound) from memory_reembed_jobs j,
lateral (select coalesce(min(id), 1) - 1 as first from memory_entries where current) f,
generate_series(f.first, j.bound - 1, $2::bigint) as lo where j.id = $1
"""


async def start(conn: Conn, project_id: int | None, memories: int, requested_by: str) -> int:
    """Begin to make the chunks of a project, or of the whole store, anew; the job's id. None other is open.

    `memories` is how many there are, counted before anything was locked.

    The registry is locked exclusively: every memory that was stored before is covered.
    """
    job_id = await conn.fetchval(_START, project_id, memories, requested_by)
    await conn.execute(_START_RANGES, job_id, RANGE_MEMORIES)
    await wake(conn)
    return int(job_id)


_READ = f"""
select e.id, e.canonical_id, e.version_no, e.project_id, t.name as tenant, e.input, e.summary, e.tags,
coalesce(array_agg(c.content_hash order by c.ordinal) filter (where c.id is not null), '{{}}') as hashes,
coalesce(bool_and((c.chunker_version, c.preprocessing_version) = ($4::int, $5::int)), false) as up_to_date
from memory_entries e join memory_projects p on p.id = e.project_id
join memory_tenants t on t.id = p.tenant_id
left join memory_chunks c on c.entry_id = e.id
where e.id > $2 and e.id <= $3 and {_EXHAUSTED} group by e.id, t.name order by e.id limit $6
"""


async def read(
    conn: Conn, after_id: int, upto_id: int, project_id: int | None, versions: tuple[int, int], limit: int
) -> list[CutMemory]:
    """Memories of a range, by id, with how they are cut."""
    rows = await conn.fetch(_READ, project_id, after_id, upto_id, *versions, limit)
    return [CutMemory(**dict(row)) for row in rows]


_HOLD = """select true from memory_entries where id = $1 and current and input is not null for update"""


async def hold(conn: Conn, entry_id: int) -> bool:
    """Lock the version of a memory until the transaction ends; False when it is no longer the current one."""
    found = await conn.fetchval(_HOLD, entry_id)
    return bool(found)


_LOCK_CHUNKS = """select id from memory_chunks where entry_id = $1 order by id for update"""

_SET_ASIDE = """update memory_chunks set live = false, ordinal = -1 - ordinal where id = any($1)"""


async def set_aside(conn: Conn, entry_id: int) -> list[int]:
    """Make room for the new chunks of a version; ids of the old ones, which are there until `forget_old`.

    Their numbers are taken by the new ones; below zero none is.
    """
    rows = await conn.fetch(_LOCK_CHUNKS, entry_id)
    ids = [row["id"] for row in rows]
    await conn.execute(_SET_ASIDE, ids)
    return ids


_CARRY_OVER = """
insert into {vectors} (chunk_id, project_id, embedding)
select distinct on (n.id) n.id, n.project_id, v.embedding from memory_chunks n
join memory_chunks o on o.content_hash = n.content_hash and o.id = any($1)
join {vectors} v on v.chunk_id = o.id where n.id = any($2) order by n.id returning chunk_id
"""


async def carry_over(conn: Conn, space: Space, old: Sequence[int], new: Sequence[int]) -> set[int]:
    """Give new chunks the vectors of old ones with the same text; ids of those that got one."""
    rows = await conn.fetch(vectors.for_space(_CARRY_OVER, space.id), list(old), list(new))
    return {row["chunk_id"] for row in rows}


_FORGET_OLD = """delete from memory_chunks where id = any($1)"""


async def forget_old(conn: Conn, old: Sequence[int]) -> dict[int, int]:
    """Delete the chunks that were set aside, with their vectors; changes of the counters of vectors."""
    deltas = await vectors.forget(conn, old)
    await conn.execute(_FORGET_OLD, list(old))
    return deltas


_WAITING = """
select coalesce(max(n), 0) from (select count(*) as n from memory_embedding_pending w
  join memory_embedding_spaces s on s.id = w.space_id where s.state <> 'retired' group by w.space_id) w
"""


async def waiting(conn: Conn) -> int:
    """Chunks that wait for a vector outside a fill, in the space in use with most of them."""
    return int(await conn.fetchval(_WAITING))


_RUNNING = """select id, project_id from memory_reembed_jobs where kind = 'reindex' and state = 'running'"""


async def running(conn: Conn) -> tuple[int, int | None] | None:
    """The reindex that runs: its id, and its project."""
    row = await conn.fetchrow(_RUNNING)
    return (row["id"], row["project_id"]) if row else None


_BEGIN = """update memory_reembed_jobs set first_call_at = now() where id = $1 and first_call_at is null"""


async def begin(conn: Conn, job_id: int) -> None:
    """Note when the walk began; its rate counts from there."""
    await conn.execute(_BEGIN, job_id)


_IS_EXHAUSTED = """select exists (select 1 from memory_reembed_leases where job_id = $1)"""


async def is_exhausted(conn: Conn, job_id: int) -> bool:
    """Whether no range of a job is left."""
    return not await conn.fetchval(_IS_EXHAUSTED, job_id)


_FINISH = """
update memory_reembed_jobs j set state = 'done', finished_at = now() where j.id = $1 and j.state = 'running'
and not exists (select 1 from memory_reembed_leases l where l.job_id = j.id) returning true
"""


async def finish(conn: Conn, job_id: int) -> bool:
    """End a reindex whose ranges have all been walked; False when it has not come to that, or has ended already."""
    done = await conn.fetchval(_FINISH, job_id)
    if done:
        await registry.announce(conn)
    return bool(done)
