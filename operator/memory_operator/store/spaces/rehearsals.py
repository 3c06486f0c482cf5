"""Rehearsals: a sample of the chunks with the vectors that another model gives them, beside all spaces, for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

from memory_operator.memory.chunking import BYTES_PER_TOKEN, MAX_CHUNK_BYTES
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.pool import Conn, Row, fetch_one
from memory_operator.store.spaces import vectors

KEPT_SECONDS = 900
"""How long one stays after somebody last worked with it."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One row of memory_rehearsals, with what is counted of it."""

    id: int
    tenant_id: int
    space_id: int
    """Whose vendor, credential and limits are used."""
    config: SpaceConfig
    dimensions: int | None
    """None before the first vector."""
    created_by: str
    created_at: datetime
    expires_at: datetime
    chunks: int
    embedded: int
    refused: int

    @property
    def name(self) -> str:
        """What people and requests call it."""
        return f"rehearsal-{self.id}"

    @property
    def left(self) -> int:
        """Chunks that are still to be embedded."""
        return self.chunks - self.embedded - self.refused


_GET = """
select r.*, count(c.chunk_id) as chunks, count(c.embedding) as embedded, count(c.refused) as refused
from memory_rehearsals r left join memory_rehearsal_chunks c on c.rehearsal_id = r.id
where r.expires_at > now() and ($1::bigint is null or r.id = $1) group by r.id order by r.id
"""


def _rehearsal(row: Row) -> Rehearsal:
    return Rehearsal(**{**dict(row), "config": SpaceConfig.model_validate(row["config"])})


async def find(conn: Conn, rehearsal_id: int) -> Rehearsal | None:
    """One that has not expired."""
    row = await conn.fetchrow(_GET, rehearsal_id)
    return _rehearsal(row) if row else None


async def all_open(conn: Conn) -> list[Rehearsal]:
    """Those that have not expired, oldest first."""
    return [_rehearsal(row) for row in await conn.fetch(_GET, None)]


# Whole memories, in an order that depends on nothing but the seed, so that each project has its share of the sample.
_SAMPLED = """
select c.id as chunk_id, c.project_id, octet_length(c.text) as bytes from {vectors} v
join memory_chunks c on c.id = v.chunk_id and c.live join memory_projects p on p.id = c.project_id
where p.tenant_id = $1 and ($2::int is null or c.project_id = $2)
order by hashint8extended(c.entry_id, $3), c.entry_id, c.ordinal limit $4
"""

_MEASURE = f"""
select count(*) as chunks, count(distinct project_id) as projects,
coalesce(sum(greatest(1, (bytes - $5 + $6 + {BYTES_PER_TOKEN - 1}) / {BYTES_PER_TOKEN})), 0)::bigint as tokens
from ({_SAMPLED}) sampled where bytes - $5 + $6 <= {MAX_CHUNK_BYTES}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Chunks that a rehearsal embeds."""

    tenant_id: int
    project_id: int | None
    """None: of all projects of the tenant."""
    seed: int
    size: int
    """At most so many."""


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What is in a sample."""

    chunks: int
    projects: int
    tokens: int
    """Estimated."""


async def measure(conn: Conn, active_id: int, sample: Sample, cipher_bytes: int, prefix_bytes: int) -> SampleSize:
    """What a rehearsal would embed, of the chunks that the active space has. Raises SpaceVanished."""
    row = await fetch_one(conn, vectors.for_space(_MEASURE, active_id), *_values(sample), cipher_bytes, prefix_bytes)
    return SampleSize(**dict(row))


def _values(sample: Sample) -> tuple[int, int | None, int, int]:
    return sample.tenant_id, sample.project_id, sample.seed, sample.size


_CREATE = """
insert into memory_rehearsals (tenant_id, space_id, config, created_by, expires_at)
values ($1, $2, $3, $4, now() + make_interval(secs => $5)) returning id
"""

_TAKE_SAMPLE = f"""
insert into memory_rehearsal_chunks (rehearsal_id, chunk_id, project_id)
select $7, chunk_id, project_id from ({_SAMPLED}) sampled
where bytes - $5 + $6 <= {MAX_CHUNK_BYTES}
"""


async def create(
    conn: Conn,
    owner: tuple[int, int],
    config: SpaceConfig,
    by: str,
    sample: Sample,
    sizes: tuple[int, int],
) -> int:
    """A new rehearsal with its sample; its id. In the caller's transaction.

    `owner` is the space whose vendor is called, and the active one that it is compared with; `sizes` are the bytes
    that encryption adds to a text, and those of its prefix. Raises SpaceVanished.
    """
    space_id, active_id = owner
    rehearsal_id = int(
        await conn.fetchval(_CREATE, sample.tenant_id, space_id, config.snapshot, by, float(KEPT_SECONDS))
    )
    await conn.execute(vectors.for_space(_TAKE_SAMPLE, active_id), *_values(sample), *sizes, rehearsal_id)
    return rehearsal_id


@dataclass(frozen=True, slots=True)
class SampledChunk:
    """A chunk to embed, still encrypted, with what decrypts it."""

    id: int
    text: bytes
    ordinal: int
    canonical_id: UUID
    version_no: int
    tenant: str


_LACKING = """
select c.id, c.text, c.ordinal, e.canonical_id, e.version_no, t.name as tenant
from memory_rehearsal_chunks r join memory_chunks c on c.id = r.chunk_id join memory_entries e on e.id = c.entry_id
join memory_projects p on p.id = c.project_id join memory_tenants t on t.id = p.tenant_id
where r.rehearsal_id = $1 and r.embedding is null and r.refused is null order by c.id limit $2
"""


async def lacking(conn: Conn, rehearsal_id: int, limit: int) -> list[SampledChunk]:
    """Chunks that are still to be embedded."""
    return [SampledChunk(**dict(row)) for row in await conn.fetch(_LACKING, rehearsal_id, limit)]


_STORE = """
update memory_rehearsal_chunks r set embedding = u.embedding
from unnest($2::bigint[], $3::vector[]) as u (id, embedding) where r.rehearsal_id = $1 and r.chunk_id = u.id
"""

_SET_DIMENSIONS = """
update memory_rehearsals set dimensions = $2 where id = $1 and (dimensions is null or dimensions = $2) returning id
"""


async def store(conn: Conn, rehearsal_id: int, chunk_ids: Sequence[int], found: NDArray[np.float32]) -> bool:
    """Store vectors of shape (n, d); False where the rehearsal is gone, or has vectors of another length."""
    if await conn.fetchval(_SET_DIMENSIONS, rehearsal_id, found.shape[1]) is None:
        return False
    await conn.execute(_STORE, rehearsal_id, list(chunk_ids), [Vector(one) for one in found])
    return True


_REFUSE = """update memory_rehearsal_chunks set refused = $3 where rehearsal_id = $1 and chunk_id = any($2)"""


async def refuse(conn: Conn, rehearsal_id: int, chunk_ids: Sequence[int], reason: str) -> None:
    """Note that chunks get no vector."""
    await conn.execute(_REFUSE, rehearsal_id, list(chunk_ids), reason)


_PUT_OFF = """
update memory_rehearsals set expires_at = now() + make_interval(secs => $2) where id = $1 and expires_at > now()
returning id
"""


async def put_off(conn: Conn, rehearsal_id: int) -> bool:
    """Keep one for KEPT_SECONDS from now on; False where it is gone."""
    return await conn.fetchval(_PUT_OFF, rehearsal_id, float(KEPT_SECONDS)) is not None


_DROP = """delete from memory_rehearsals where id = $1"""

_DROP_EXPIRED = """delete from memory_rehearsals where expires_at <= now() returning id"""


async def drop(conn: Conn, rehearsal_id: int) -> None:
    """Remove one, with its vectors."""
    await conn.execute(_DROP, rehearsal_id)


async def drop_expired(conn: Conn) -> int:
    """Remove those that nobody worked with for KEPT_SECONDS; how many."""
    return len(await conn.fetch(_DROP_EXPIRED))


_OF_PROJECT = """
select embedding from memory_rehearsal_chunks where rehearsal_id = $1 and project_id = $2 and embedding is not null
order by hashint8(chunk_id) limit $3
"""


async def vectors_of(conn: Conn, rehearsal_id: int, project_id: int, limit: int) -> NDArray[np.float32]:
    """Some of the vectors of a project, of shape (n, dimensions)."""
    rows = await conn.fetch(_OF_PROJECT, rehearsal_id, project_id, limit)
    return np.array([row["embedding"].to_numpy() for row in rows], dtype=np.float32)


_REHEARSED = """
(select r.chunk_id, r.project_id, r.embedding from memory_rehearsal_chunks r join memory_chunks c
  on c.id = r.chunk_id and c.live where r.rehearsal_id = {rehearsal} and r.embedding is not null)
"""


def table_of(rehearsal_id: int) -> str:
    """What stands in a statement for the vectors of a rehearsal, as the table's name for those of a space."""
    return _REHEARSED.format(rehearsal=int(rehearsal_id))
