"""What one project has in each space, counted one by one."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.spaces import vectors

_CHUNKS = """
select count(*) as chunks, count(distinct c.entry_id)
  filter (where (c.chunker_version, c.preprocessing_version) <> ($2::int, $3::int)) as outdated
from memory_chunks c where c.live and c.project_id = $1
"""


@dataclass(frozen=True, slots=True)
class ProjectChunks:
    """The live chunks of a project."""

    chunks: int
    outdated: int
    """Memories that were cut by other versions of the chunker or of the preprocessing."""


async def chunks(conn: Conn, project_id: int, versions: tuple[int, int]) -> ProjectChunks:
    """The live chunks of a project."""
    return ProjectChunks(**dict(await fetch_one(conn, _CHUNKS, project_id, *versions)))


_IN_SPACE = """
select count(v.chunk_id) as vectors, count(q.chunk_id) as quarantined, count(w.chunk_id) as pending
from memory_chunks c left join {vectors} v on v.chunk_id = c.id and v.project_id = $1
left join memory_embedding_quarantine q on q.space_id = $2 and q.chunk_id = c.id and v.chunk_id is null
left join memory_embedding_pending w on w.space_id = $2 and w.chunk_id = c.id and v.chunk_id is null
where c.live and c.project_id = $1
"""


@dataclass(frozen=True, slots=True)
class ProjectInSpace:
    """The live chunks of a project in one space, by whether they have a vector."""

    vectors: int
    quarantined: int
    pending: int


async def in_space(conn: Conn, project_id: int, space_id: int) -> ProjectInSpace:
    """What a project has in a space. Raises SpaceVanished."""
    return ProjectInSpace(**dict(await fetch_one(conn, vectors.for_space(_IN_SPACE, space_id), project_id, space_id)))
