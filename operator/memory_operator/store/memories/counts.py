"""How much a tenant has stored."""

from __future__ import annotations

from memory_operator.store.db.pool import Conn

_MEMORIES = """
select p.slug, e.n from memory_projects p join memory_tenants t on t.id = p.tenant_id
cross join lateral (select count(*) as n from memory_entries e
  where e.project_id = p.id and e.current and not e.tombstone) e
where t.name = $1 and e.n > 0 order by p.slug
"""


async def memories(conn: Conn, tenant: str) -> dict[str, int]:
    """Memories that can be found, by project that has any; counted one by one, from an index alone."""
    rows = await conn.fetch(_MEMORIES, tenant)
    return {row["slug"]: row["n"] for row in rows}
