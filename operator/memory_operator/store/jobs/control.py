"""Jobs as people steer them: listed, paused, resumed, cancelled, and the refused chunks that they give another try."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from memory_operator.contract.resource import ProviderRef
from memory_operator.store.db.pool import Conn, Row
from memory_operator.store.jobs import quarantine
from memory_operator.store.jobs.jobs import Job, wake
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.vectors import Reach


@dataclass(frozen=True, slots=True)
class NamedJob:
    """A job with the names of what it works on."""

    job: Job
    embedding_version: str | None
    """None for a reindex, as `ref`."""
    ref: ProviderRef | None
    project: str | None
    """None: the whole store."""
    tenant: str | None = None
    """Whose project it is."""


_JOB_COLUMNS = tuple(field.name for field in fields(Job))
_SELECT = (
    f"select {', '.join(f'j.{name}' for name in _JOB_COLUMNS)},"
    " s.embedding_version, s.provider_namespace, s.provider_name, p.slug, t.name as tenant"
    " from memory_reembed_jobs j"
    " left join memory_embedding_spaces s on s.id = j.space_id left join memory_projects p on p.id = j.project_id"
    " left join memory_tenants t on t.id = p.tenant_id"
)


def _named(row: Row) -> NamedJob:
    job = Job(**{name: row[name] for name in _JOB_COLUMNS})
    ref = None if job.space_id is None else ProviderRef(row["provider_namespace"], row["provider_name"])
    return NamedJob(job, row["embedding_version"], ref, row["slug"], row["tenant"])


_PAGE = f"""
{_SELECT} where (j.space_id is null or s.provider_namespace = any($1))
and ($2::bigint is null or j.id < $2) order by j.id desc limit $3
"""


async def page(conn: Conn, namespaces: Collection[str], before: int | None, limit: int) -> list[NamedJob]:
    """The newest jobs of spaces of some namespaces, and reindexes, or those before one, newest first."""
    rows = await conn.fetch(_PAGE, list(namespaces), before, limit)
    return [_named(row) for row in rows]


_NEWEST = f"""
{_SELECT} where j.id in (
  select (select max(n.id) from memory_reembed_jobs n where n.space_id = o.id) from memory_embedding_spaces o
  union all select id from memory_reembed_jobs where space_id is null and state in ('running', 'paused'))
order by j.id desc
"""


async def newest(conn: Conn) -> list[NamedJob]:
    """The newest job of each space, and the reindex that is open, newest first."""
    rows = await conn.fetch(_NEWEST)
    return [_named(row) for row in rows]


_ONE = f"""{_SELECT} where j.id = $1"""


async def one(conn: Conn, job_id: int) -> NamedJob | None:
    """One job."""
    row = await conn.fetchrow(_ONE, job_id)
    return _named(row) if row else None


_OPEN_JOBS = f"""{_SELECT} where j.state in ('running', 'paused') and j.space_id = any($1) order by j.id"""


async def open_jobs(conn: Conn, space_ids: Collection[int]) -> list[NamedJob]:
    """The jobs of some spaces that run or are paused, oldest first."""
    rows = await conn.fetch(_OPEN_JOBS, list(space_ids))
    return [_named(row) for row in rows]


_OPEN_REINDEX = f"""{_SELECT} where j.state in ('running', 'paused') and j.kind = 'reindex'"""


async def open_reindex(conn: Conn) -> NamedJob | None:
    """The reindex that runs or is paused; there is never more than one."""
    row = await conn.fetchrow(_OPEN_REINDEX)
    return _named(row) if row else None


_PAUSE = """
update memory_reembed_jobs set state = 'paused', paused_for = 'user', message = null
where id = $1 and state in ('running', 'paused') returning true
"""


async def pause(conn: Conn, job_id: int) -> bool:
    """Pause a job until somebody resumes it, also one that waits for its budget; False when it has ended."""
    return bool(await conn.fetchval(_PAUSE, job_id))


_RESUME = """
update memory_reembed_jobs set state = 'running', paused_for = null, message = null
where id = $1 and state = 'paused' and paused_for = 'user' returning true
"""


async def resume(conn: Conn, job_id: int) -> bool:
    """Let a job go on that somebody paused; False when it is not one."""
    resumed = await conn.fetchval(_RESUME, job_id)
    if resumed:
        await wake(conn)
    return bool(resumed)


_CANCEL_RANGES = """
delete from memory_reembed_leases l using memory_reembed_jobs j where l.job_id = $1 and j.id = l.job_id
and l.state = 'open' and j.state in ('running', 'paused')
"""

_CANCEL = """
update memory_reembed_jobs set state = 'cancelled', paused_for = null, finished_at = now()
where id = $1 and state in ('running', 'paused') returning true
"""


async def cancel(conn: Conn, job_id: int) -> bool:
    """End a job without completing it; what is under way for it is paid, and is still stored. False when it had ended.

    The ranges come before the job, as the workers take them.
    """
    await conn.execute(_CANCEL_RANGES, job_id)
    return bool(await conn.fetchval(_CANCEL, job_id))


_QUARANTINED = """
from memory_embedding_quarantine q join memory_chunks c on c.id = q.chunk_id
where q.space_id = $1 and ($2::int is null or c.project_id = $2) and ($3::bigint is null or c.id <= $3)
"""

_COUNT_QUARANTINED = f"""select count(*) {_QUARANTINED}"""


async def quarantined(conn: Conn, space_id: int, reach: Reach) -> int:
    """Chunks in reach that the embedder of a space refuses."""
    return int(await conn.fetchval(_COUNT_QUARANTINED, space_id, *reach))


_REQUEUE_QUARANTINED = f"""
delete from memory_embedding_quarantine where space_id = $1 and chunk_id in
(select q.chunk_id {_QUARANTINED}) returning chunk_id
"""


async def requeue_quarantined(conn: Conn, space_id: int, reach: Reach, *, at_once: bool) -> int:
    """Let chunks in reach out of quarantine; how many. `at_once`: they do not wait for the walk of a job."""
    rows = await conn.fetch(_REQUEUE_QUARANTINED, space_id, *reach)
    if at_once and rows:
        await quarantine.put_back(conn, space_id, [row["chunk_id"] for row in rows])
        await wake(conn)
    return len(rows)


_COUNT_WAITING = """
select (select count(*) from memory_embedding_quarantine where space_id = $1)
+ (select count(*) from memory_embedding_pending where space_id = $1)
"""

_PROJECT_LACKS_SOME = """
select exists (select 1 from memory_chunks c where c.live and c.project_id = $2
and not exists (select 1 from {vectors} v where v.chunk_id = c.id)
and not exists (select 1 from memory_embedding_quarantine q where q.space_id = $1 and q.chunk_id = c.id)
and not exists (select 1 from memory_embedding_pending w where w.space_id = $1 and w.chunk_id = c.id))
"""


async def lacks_some(conn: Conn, space_id: int, project_id: int | None) -> bool:
    """Whether, by the counters, live chunks lack a vector and nobody is to make one; of a project: one by one."""
    if project_id is None:
        counted = await registry.counted(conn)
        lacking = counted.get(registry.CHUNKS, 0) - counted.get(space_id, 0)
        waiting = await conn.fetchval(_COUNT_WAITING, space_id)
        return bool(lacking > waiting)
    return bool(await conn.fetchval(vectors.for_space(_PROJECT_LACKS_SOME, space_id), space_id, project_id))
