"""What two sets of vectors have in common, and the nearest in one of them among those that both have.

Each is a space, or the sample that a rehearsal embeds. Nothing here uses an index: what is compared is read exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.memories.nearest import Hit, similarity
from memory_operator.store.spaces import hnsw, rehearsals, vectors
from memory_operator.store.spaces.rehearsals import Rehearsal
from memory_operator.store.spaces.spaces import Space


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Vectors that a question is compared with."""

    source: Space | Rehearsal

    @property
    def table(self) -> str:
        """What stands for it in a statement."""
        if isinstance(self.source, Space):
            return vectors.table(self.source.id)
        return rehearsals.table_of(self.source.id)

    @property
    def distance(self) -> str:
        """How its vectors are compared."""
        return self.source.distance if isinstance(self.source, Space) else self.source.config.distance

    def parameter(self, vector: NDArray[np.float32]) -> Any:
        """A vector of shape (dimensions,) as its column takes it."""
        halved = isinstance(self.source, Space) and self.source.column_type == "halfvec"
        return (HalfVector if halved else Vector)(vector)


Pair = tuple[VectorSet, VectorSet]


def _for_pair(statement: str, pair: Pair, **names: str) -> str:
    return statement.format(one=pair[0].table, other=pair[1].table, **names)


_COUNT = """
select count(*) filter (where a.chunk_id is not null and b.chunk_id is not null) as both,
count(*) filter (where b.chunk_id is null) as only_one, count(*) filter (where a.chunk_id is null) as only_other,
count(distinct c.project_id) filter (where a.chunk_id is not null and b.chunk_id is not null) as projects
from memory_chunks c join memory_projects p on p.id = c.project_id and p.tenant_id = $1
left join {one} a on a.chunk_id = c.id left join {other} b on b.chunk_id = c.id
where c.live and ($2::int is null or c.project_id = $2) and (a.chunk_id is not null or b.chunk_id is not null)
"""


@dataclass(frozen=True, slots=True)
class InCommon:
    """How many chunks have a vector in both, or in one alone."""

    both: int
    only_one: int
    only_other: int
    projects: int

    @property
    def whole(self) -> bool:
        """Whether each has all that the other has."""
        return not self.only_one and not self.only_other


async def in_common(conn: Conn, pair: Pair, tenant_id: int, project_id: int | None) -> InCommon:
    """What both have of a tenant's chunks, or of one project's. Raises SpaceVanished."""
    return InCommon(**dict(await fetch_one(conn, _for_pair(_COUNT, pair), tenant_id, project_id)))


_DRAW = """
select c.id, c.entry_id, c.project_id, p.slug, c.ordinal, c.text, e.canonical_id, e.version_no, t.name as tenant
from {one} a join {other} b on b.chunk_id = a.chunk_id
join memory_chunks c on c.id = a.chunk_id and c.live join memory_entries e on e.id = c.entry_id
join memory_projects p on p.id = c.project_id and p.tenant_id = $1 join memory_tenants t on t.id = p.tenant_id
where c.ordinal = 0 and ($2::int is null or c.project_id = $2)
order by hashint8extended(c.entry_id, $3), c.id limit $4
"""


@dataclass(frozen=True, slots=True)
class DrawnChunk:
    """The first chunk of a memory, still encrypted."""

    id: int
    entry_id: int
    project_id: int
    slug: str
    """Name of the project."""
    ordinal: int
    text: bytes
    canonical_id: UUID
    version_no: int
    tenant: str


async def drawn(
    conn: Conn, pair: Pair, tenant_id: int, project_id: int | None, draw: tuple[int, int]
) -> list[DrawnChunk]:
    """Memories whose first chunk both have, in an order that `draw`'s first number makes, at most the second."""
    rows = await conn.fetch(_for_pair(_DRAW, pair), tenant_id, project_id, *draw)
    return [DrawnChunk(**dict(row)) for row in rows]


# The best chunk of each memory, of those that both have.
_NEAREST = """
select c.entry_id, (array_agg(near.chunk_id order by near.distance, near.chunk_id))[1] as chunk_id,
min(near.distance) as distance
from (select v.chunk_id, v.embedding {operator} $2 as distance from {one} v
  where v.project_id = $1 and exists (select from {other} o where o.chunk_id = v.chunk_id)) near
join memory_chunks c on c.id = near.chunk_id and c.live
group by c.entry_id order by 3, 2 limit $3
"""


async def nearest_in_common(
    conn: Conn, pair: Pair, project_id: int, vector: NDArray[np.float32], limit: int
) -> list[Hit]:
    """The memories nearest to a vector in the first of a pair, of the chunks that both have, best first.

    Scores as of `nearest.nearest`. `conn` comes from `nearest.bounded`. Raises TookTooLong, SpaceVanished.
    """
    one = pair[0]
    statement = _for_pair(_NEAREST, pair, operator=hnsw.OPERATORS[one.distance])
    rows = await conn.fetch(statement, project_id, one.parameter(vector), limit)
    return [
        Hit(row["entry_id"], row["chunk_id"], similarity(row["distance"], one.distance), "vector")
        for row in rows
        if row["distance"] == row["distance"]  # not a number, where the vectors are too large for their distance
    ]


_ENTRIES = """
select distinct c.entry_id from memory_chunks c join {one} a on a.chunk_id = c.id join {other} b on b.chunk_id = c.id
where c.entry_id = any($1) and c.live
"""


async def entries_in_common(conn: Conn, pair: Pair, entry_ids: Sequence[int]) -> set[int]:
    """Those of some memories of which both have a chunk."""
    rows = await conn.fetch(_for_pair(_ENTRIES, pair), list(entry_ids))
    return {row["entry_id"] for row in rows}


_IDS = """select id, canonical_id from memory_entries where id = any($1)"""


async def memory_ids(conn: Conn, entry_ids: Sequence[int]) -> Mapping[int, UUID]:
    """The memories that versions are of."""
    return {row["id"]: row["canonical_id"] for row in await conn.fetch(_IDS, list(entry_ids))}


_CURRENT = (
    """select id, canonical_id from memory_entries where canonical_id = any($1) and current and project_id = $2"""
)


async def current_entries(conn: Conn, project_id: int, memories: Sequence[UUID]) -> Mapping[UUID, int]:
    """The current versions of some memories, of those that are in a project."""
    return {row["canonical_id"]: row["id"] for row in await conn.fetch(_CURRENT, list(memories), project_id)}
