"""Memories page by page, and what a project has from where."""

from __future__ import annotations

from uuid import UUID

from memory_operator.store.db.pool import Conn
from memory_operator.store.memories import memories
from memory_operator.store.memories.memories import Version

_PAGE_IDS = """
select e.id, e.bytes from memory_projects p cross join lateral (
  select e.id, coalesce(octet_length(e.input), 0) as bytes from memory_entries e
  where e.project_id = p.id and e.current and not e.tombstone and e.id < $3 order by e.id desc limit $4) e
where p.tenant_id = $1 and ($2::int is null or p.id = $2) order by e.id desc limit $4
"""

_IDS_BETWEEN = """
select e.id, coalesce(octet_length(e.input), 0) as bytes
from memory_entries e join memory_projects p on p.id = e.project_id
where e.canonical_id between $5 and $6 and e.current and not e.tombstone and e.id < $3
and p.tenant_id = $1 and ($2::int is null or p.id = $2) order by e.id desc limit $4
"""

_BY_ENTRY = f"""
select {memories.COLUMNS} {memories.FROM} where e.id = any($1) and e.current and not e.tombstone order by e.id desc
"""

_NEWEST_ENTRY = 2**63 - 1


async def page(
    conn: Conn,
    of: tuple[int, int | None],
    before: int | None,
    limit: int,
    between: tuple[UUID, UUID] | None,
    most_bytes: int,
) -> tuple[list[Version], int | None]:
    """Current memories of a (tenant, project or None), newest first; and where the next page begins.

    With `between` only those whose ids lie there, both ends included.
    It ends early when its texts have `most_bytes`: a page of long ones must not fill the process's memory.
    """
    statement, ends = (_PAGE_IDS, ()) if between is None else (_IDS_BETWEEN, between)
    rows = await conn.fetch(statement, *of, before or _NEWEST_ENTRY, limit, *ends)
    ids: list[int] = []
    total = 0
    for row in rows:
        total += row["bytes"]
        if ids and total > most_bytes:
            break
        ids.append(row["id"])
    versions = [memories.version_of(row) for row in await conn.fetch(_BY_ENTRY, ids)]
    return versions, ids[-1] if ids and (len(ids) == limit or len(ids) < len(rows)) else None


_SOURCES = """
select distinct source from memory_entries
where project_id = $1 and current and not tombstone and source is not null
"""


async def sources(conn: Conn, project_id: int) -> set[str]:
    """The sources of a project's current memories."""
    rows = await conn.fetch(_SOURCES, project_id)
    return {row["source"] for row in rows}
