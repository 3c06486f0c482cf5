"""How much a tenant has stored."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.spaces import vectors

_MEMORIES = """
select p.slug, e.n from memory_projects p join memory_tenants t on t.id = p.tenant_id
cross join lateral (select count(*) as n from memory_entries e
  where e.project_id = p.id and e.current and not e.tombstone) e
where t.name = $1 and e.n > 0 order by p.slug
"""


_LIVE = """
select count(*) from memory_entries e where e.current and not e.tombstone and ($1::int is null or e.project_id = $1)
"""


async def live(conn: Conn, project_id: int | None) -> int:
    """Memories that can be found, of a project or of all tenants; counted one by one."""
    return int(await conn.fetchval(_LIVE, project_id))


async def memories(conn: Conn, tenant: str) -> dict[str, int]:
    """Memories that can be found, by project that has any; counted one by one, from an index alone."""
    rows = await conn.fetch(_MEMORIES, tenant)
    return {row["slug"]: row["n"] for row in rows}


_LARGEST_TENANTS = """
select t.name from memory_tenants t join memory_projects p on p.tenant_id = t.id
cross join lateral (select count(*) as n from memory_entries e
  where e.project_id = p.id and e.current and not e.tombstone) e
group by t.name having sum(e.n) > 0 order by sum(e.n) desc, t.name limit $1
"""


async def largest_tenants(conn: Conn, limit: int) -> list[str]:
    """The tenants with most memories that can be found, the largest first; counted from an index alone."""
    return [row["name"] for row in await conn.fetch(_LARGEST_TENANTS, limit)]


@dataclass(frozen=True, slots=True)
class Counted:
    """Chunks that can be found, and the memories that they are of."""

    chunks: int
    memories: int


_PROJECT = """
select p.id from memory_projects p join memory_tenants t on t.id = p.tenant_id where t.name = $1 and p.slug = $2
"""


async def project_id(conn: Conn, tenant: str, slug: str) -> int | None:
    """Id of a tenant's project; None where there is none of the name."""
    found: int | None = await conn.fetchval(_PROJECT, tenant, slug)
    return found


_IN_PROJECT = """
select count(*) as chunks, count(distinct c.entry_id) as memories from memory_chunks c
where c.live and c.project_id = $1
"""


async def in_project(conn: Conn, project: int) -> Counted:
    """What a project has; counted one by one."""
    return Counted(**dict(await fetch_one(conn, _IN_PROJECT, project)))


_IN_SPACE = """
select count(*) as chunks, count(distinct c.entry_id) as memories from {vectors} v
join memory_chunks c on c.id = v.chunk_id where c.live and c.project_id = $1 and v.project_id = $1
"""


async def in_space(conn: Conn, project: int, space_id: int) -> Counted:
    """What of a project has a vector in a space; counted one by one. Raises SpaceVanished."""
    return Counted(**dict(await fetch_one(conn, vectors.for_space(_IN_SPACE, space_id), project)))
