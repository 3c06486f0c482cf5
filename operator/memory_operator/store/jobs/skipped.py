"""Chunks that a job skipped as they cannot be embedded, and why; kept until the next reembed of the space."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs.jobs import Job

_NOTE = """
insert into memory_reembed_skipped (job_id, chunk_id, reason)
select distinct on (d.id) $1::bigint, d.id, w.reason from unnest($2::bigint[], $3::text[]) as w (id, reason)
join memory_chunks f on f.id = w.id join memory_chunks d on d.content_hash = f.content_hash and d.live
where ($4::int is null or d.project_id = $4) and ($5::bigint is null or d.id <= $5)
on conflict do nothing returning chunk_id
"""


async def note(conn: Conn, job: Job, reasons: Mapping[int, str]) -> int:
    """Note why a job skips chunks, and those with the same text that it covers; how many were not noted before."""
    reach = job.reach
    ids, texts = list(reasons.keys()), list(reasons.values())
    return len(await conn.fetch(_NOTE, job.id, ids, texts, reach.project_id, reach.upto_id))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A chunk that a job skipped."""

    space_id: int
    chunk_id: int
    memory_id: UUID
    ordinal: int
    project: str
    reason: str
    quarantined: bool
    """False where it keeps the vector that it had, or has got one since."""


_PAGE = """
select j.space_id, s.chunk_id, e.canonical_id as memory_id, c.ordinal, p.slug as project, s.reason,
  exists (select from memory_embedding_quarantine q where q.space_id = j.space_id and q.chunk_id = s.chunk_id)
    as quarantined
from memory_reembed_skipped s join memory_reembed_jobs j on j.id = s.job_id
join memory_embedding_spaces m on m.id = j.space_id
join memory_chunks c on c.id = s.chunk_id join memory_entries e on e.id = c.entry_id
join memory_projects p on p.id = c.project_id join memory_tenants t on t.id = p.tenant_id
where s.job_id = $1 and m.provider_namespace = any($2) and ($3::text is null or t.name = $3)
and s.chunk_id > $4 order by s.chunk_id limit $5
"""


async def page(
    conn: Conn, job_id: int, namespaces: Collection[str], tenant: str | None, after: int, limit: int
) -> list[Skipped]:
    """Chunks that a job of a space of some namespaces skipped, by id, of one tenant or of all; those behind `after`."""
    rows = await conn.fetch(_PAGE, job_id, list(namespaces), tenant, after, limit)
    return [Skipped(**dict(row)) for row in rows]
