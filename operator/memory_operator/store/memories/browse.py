"""Memories page by page."""

from __future__ import annotations

from memory_operator.store.db.pool import Conn
from memory_operator.store.memories import memories
from memory_operator.store.memories.memories import Version

_PAGE_IDS = """
select e.id, e.bytes from memory_projects p cross join lateral (
  select e.id, coalesce(octet_length(e.input), 0) as bytes from memory_entries e
  where e.project_id = p.id and e.current and not e.tombstone and e.id < $3 order by e.id desc limit $4) e
where p.tenant_id = $1 and ($2::int is null or p.id = $2) order by e.id desc limit $4
"""

_BY_ENTRY = f"""
select {memories.COLUMNS} {memories.FROM} where e.id = any($1) and e.current and not e.tombstone order by e.id desc
"""

_NEWEST_ENTRY = 2**63 - 1


async def page(
    conn: Conn, tenant_id: int, project_id: int | None, before: int | None, limit: int, most_bytes: int
) -> tuple[list[Version], int | None]:
    """Current memories of a tenant, or of one project, newest first; and where the next page begins.

    It ends early when its texts have `most_bytes`: a page of long ones must not fill the process's memory.
    """
    rows = await conn.fetch(_PAGE_IDS, tenant_id, project_id, before or _NEWEST_ENTRY, limit)
    ids: list[int] = []
    total = 0
    for row in rows:
        total += row["bytes"]
        if ids and total > most_bytes:
            break
        ids.append(row["id"])
    versions = [memories.version_of(row) for row in await conn.fetch(_BY_ENTRY, ids)]
    return versions, ids[-1] if ids and (len(ids) == limit or len(ids) < len(rows)) else None
