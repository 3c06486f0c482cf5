"""How similar the vectors of a project are to each other in a space: measured now and then, read by queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memory_operator.memory.fusion import Dispersion
from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.spaces import vectors

FEWEST_VECTORS = 20
"""A project with fewer is not measured."""

MOST_VECTORS = 10_000
"""A project that was measured with so many stays as it is."""

_SAMPLED = 256
"""Vectors that are compared with each other: 32,640 pairs."""

_OF_SPACE = 100

_FIND = """
select coalesce(own.mean, usual.mean) as mean, coalesce(own.deviation, usual.deviation) as deviation
from (select avg(mean) as mean, avg(deviation) as deviation
  from (select mean, deviation from memory_space_dispersions where space_id = $1 limit $3) measured) usual
left join memory_space_dispersions own on own.space_id = $1 and own.project_id = $2
"""


async def find(conn: Conn, space_id: int, project_id: int) -> Dispersion | None:
    """That of a project; until it was measured what is usual in the space; None where nothing was measured yet."""
    row = await fetch_one(conn, _FIND, space_id, project_id, _OF_SPACE)
    return None if row["mean"] is None else Dispersion(row["mean"], row["deviation"])


# The probe reads as many entries of an index as there were vectors, twice, and at most MOST_VECTORS.
_DUE = """
select p.id, wanted.vectors from memory_projects p
left join memory_space_dispersions s on s.space_id = $1 and s.project_id = p.id
cross join lateral (select least(coalesce(2 * s.vectors, $2), $3) as vectors) wanted
where (s.vectors is null or s.vectors < $3)
and exists (select from {vectors} v where v.project_id = p.id offset wanted.vectors - 1)
limit $4
"""


async def due(conn: Conn, space_id: int, limit: int) -> dict[int, int]:
    """Projects that were not measured, or have twice the vectors since, and how many they have at least.

    Raises SpaceVanished.
    """
    statement = vectors.for_space(_DUE, space_id)
    rows = await conn.fetch(statement, space_id, FEWEST_VECTORS, MOST_VECTORS, limit)
    return {row["id"]: row["vectors"] for row in rows}


_SAMPLE = """
select embedding::vector as embedding from (
  select chunk_id, embedding from {vectors} where project_id = $1 limit $2) chosen
order by hashint8(chunk_id) limit $3
"""


async def sample(conn: Conn, space_id: int, project_id: int) -> NDArray[np.float32]:
    """Some of a project's vectors, of shape (n, dimensions). Raises SpaceVanished."""
    rows = await conn.fetch(vectors.for_space(_SAMPLE, space_id), project_id, MOST_VECTORS, _SAMPLED)
    return np.array([row["embedding"].to_numpy() for row in rows], dtype=np.float32)


_RECORD = """
insert into memory_space_dispersions (space_id, project_id, vectors, mean, deviation) values ($1, $2, $3, $4, $5)
on conflict (space_id, project_id) do update
set vectors = excluded.vectors, mean = excluded.mean, deviation = excluded.deviation, measured_at = now()
"""


async def record(conn: Conn, space_id: int, project_id: int, count: int, dispersion: Dispersion) -> None:
    """Write down what was measured. Raises SpaceVanished."""
    await conn.execute(_RECORD, space_id, project_id, count, dispersion.mean, dispersion.deviation)
