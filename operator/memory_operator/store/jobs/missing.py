"""Chunks that lack a vector: read by range, in plans that never look at more than the range; copied where they can be.

Of the live chunks with the same text, the one with the lowest id stands for the others: it alone is sent to a vendor,
and its vector is given to all of them in the transaction that stores it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from memory_operator.store.db import locks
from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.jobs.leases import LEASE_SECONDS, Lease
from memory_operator.store.spaces import registry, vectors


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk to embed, still encrypted, with what decrypts it."""

    id: int
    project_id: int
    text: bytes
    ordinal: int
    content_hash: bytes
    canonical_id: UUID
    version_no: int
    tenant_id: int
    tenant: str
    first_id: int
    """The lowest id among the live chunks with this text (of the project, where only one is filled)."""
    has_later: bool
    """Whether a later chunk has the same text."""


def _chunks(project: str) -> str:
    """The columns of a StoredChunk; `project` is the number of the parameter that narrows down equal texts."""
    return f"""
c.id, c.project_id, c.text, c.ordinal, c.content_hash, e.canonical_id, e.version_no, t.id as tenant_id,
t.name as tenant,
(select r.id from memory_chunks r where r.content_hash = c.content_hash and r.live
  and ({project}::int is null or r.project_id = {project}) order by r.id limit 1) as first_id,
exists (select 1 from memory_chunks r where r.content_hash = c.content_hash and r.live and r.id > c.id
  and ({project}::int is null or r.project_id = {project})) as has_later
from memory_chunks c join memory_entries e on e.id = c.entry_id
join memory_projects p on p.id = c.project_id join memory_tenants t on t.id = p.tenant_id
"""


# Each relation is bounded by the range, so that no plan reads a whole one. What is pending is sent by whoever takes it
# from there, also while its commit is still under way.
_LIVE_IN_RANGE = f"""
select {_chunks("$4")} where c.live and c.id > $1 and c.id <= $2
and ($4::int is null or c.project_id = $4)
and not exists (select 1 from memory_embedding_quarantine q where q.space_id = $3
  and q.chunk_id = c.id and q.chunk_id > $1 and q.chunk_id <= $2)
and not exists (select 1 from memory_embedding_pending w where w.space_id = $3
  and w.chunk_id = c.id and w.chunk_id > $1 and w.chunk_id <= $2)
"""

_ALL_IN_RANGE = f"{_LIVE_IN_RANGE} order by c.id"

LACKING_IN_RANGE = f"""{_LIVE_IN_RANGE}
and not exists (select 1 from {{vectors}} v
  where v.chunk_id = c.id and v.chunk_id > $1 and v.chunk_id <= $2)
order by c.id
"""


async def in_range(
    conn: Conn,
    space_id: int,
    lease: Lease,
    *,
    project_id: int | None,
    have_too: bool,
    fresh_id: int | None = None,
) -> list[StoredChunk]:
    """The live chunks of a range that have no vector, by id, or with `have_too` all live ones.

    Not those that are pending or in quarantine. `fresh_id`: what counts is the table that this job fills afresh.
    """
    statement = _ALL_IN_RANGE if have_too else vectors.for_space(LACKING_IN_RANGE, space_id, fresh_id)
    rows = await conn.fetch(statement, lease.after_id, lease.upto_id, space_id, project_id)
    return [StoredChunk(*row) for row in rows]


_TAKE_PENDING = """
with free as (select w.chunk_id from memory_embedding_pending w where w.space_id = $1
  and (w.claimed_until is null or w.claimed_until < now() or w.claimed_by not in
    (select objid::bigint from pg_locks where locktype = 'advisory' and classid = $4 and granted))
  order by w.chunk_id limit $3 for update skip locked)
update memory_embedding_pending w set claimed_by = $2, claimed_until = now() + make_interval(secs => $5)
from free where w.space_id = $1 and w.chunk_id = free.chunk_id returning w.chunk_id
"""


async def take_pending(conn: Conn, space_id: int, presence: int, limit: int) -> list[StoredChunk]:
    """Take live chunks that were stored without a vector, the oldest first, for LEASE_SECONDS."""
    taken = await conn.fetch(_TAKE_PENDING, space_id, presence, limit, locks.WORKERS, LEASE_SECONDS)
    ids = [row["chunk_id"] for row in taken]
    if not ids:
        return []
    found = await among(conn, space_id, ids)
    gone = set(ids) - {chunk.id for chunk in found}  # or has its vector by now, from a range
    if gone:
        await settle_pending(conn, space_id, gone)
    return found


_AMONG = f"""
select {_chunks("$2")} where c.live and c.id = any($1)
and not exists (select 1 from {{vectors}} v where v.chunk_id = c.id) order by c.id
"""


async def among(conn: Conn, space_id: int, chunk_ids: Collection[int]) -> list[StoredChunk]:
    """Those of some chunks that are live and have no vector, by id."""
    rows = await conn.fetch(vectors.for_space(_AMONG, space_id), list(chunk_ids), None)
    return [StoredChunk(*row) for row in rows]


_KEEP_PENDING = """
update memory_embedding_pending set claimed_until = now() + make_interval(secs => $3)
where space_id = $1 and claimed_by = $2 and claimed_until is not null
"""


async def keep_pending(conn: Conn, space_id: int, presence: int) -> None:
    """Say that the pending chunks that a worker has taken are still being worked on."""
    await conn.execute(_KEEP_PENDING, space_id, presence, LEASE_SECONDS)


_GIVE_BACK_PENDING = """
update memory_embedding_pending set claimed_by = null, claimed_until = null
where space_id = $1 and claimed_by = $2
"""


async def give_back_pending(conn: Conn, space_id: int, presence: int) -> None:
    """Let others have the pending chunks that a worker has taken."""
    await conn.execute(_GIVE_BACK_PENDING, space_id, presence)


_SETTLE_PENDING = """delete from memory_embedding_pending where space_id = $1 and chunk_id = any($2)"""


async def settle_pending(conn: Conn, space_id: int, chunk_ids: Collection[int]) -> None:
    """Chunks that have their vector now, or are in quarantine, or are gone, wait no longer."""
    await conn.execute(_SETTLE_PENDING, space_id, list(chunk_ids))


_FIRSTS_WITH_VECTOR = """select v.chunk_id from {vectors} v where v.chunk_id = any($1)"""

_EQUALS_WITH_VECTOR = """
select w.id, s.chunk_id from unnest($1::bigint[], $2::bytea[]) as w (id, content_hash),
lateral (select v.chunk_id from memory_chunks r join {vectors} v on v.chunk_id = r.id
  where r.content_hash = w.content_hash and r.live limit 1) s
"""


async def sources(
    conn: Conn, space_id: int, chunks: Sequence[StoredChunk], fresh_id: int | None = None
) -> dict[int, int]:
    """For those chunks that share their text with others: a chunk that has the vector already, by chunk id."""
    firsts = [chunk for chunk in chunks if chunk.first_id == chunk.id]
    others = [chunk for chunk in chunks if chunk.first_id != chunk.id]
    found: dict[int, int] = {}
    if others:
        rows = await conn.fetch(
            vectors.for_space(_FIRSTS_WITH_VECTOR, space_id, fresh_id), [chunk.first_id for chunk in others]
        )
        there = {row["chunk_id"] for row in rows}
        found |= {chunk.id: chunk.first_id for chunk in others if chunk.first_id in there}
    if firsts:
        rows = await conn.fetch(
            vectors.for_space(_EQUALS_WITH_VECTOR, space_id, fresh_id),
            [chunk.id for chunk in firsts],
            [chunk.content_hash for chunk in firsts],
        )
        found |= {row["id"]: row["chunk_id"] for row in rows}
    return found


_WITH_SAME_TEXT = f"""
select {_chunks("$4")} where c.live and c.content_hash = $1 and c.id <> $2
order by c.id limit $3
"""


async def with_same_text(conn: Conn, chunk: StoredChunk, limit: int) -> list[StoredChunk]:
    """Other live chunks with the text of one, the oldest first."""
    rows = await conn.fetch(_WITH_SAME_TEXT, chunk.content_hash, chunk.id, limit, None)
    return [StoredChunk(*row) for row in rows]


_ANY_UP_TO = """
select exists (select 1 from memory_chunks c where c.live and c.id <= $2
and ($3::int is null or c.project_id = $3)
and not exists (select 1 from {vectors} v where v.chunk_id = c.id)
and not exists (select 1 from memory_embedding_quarantine q where q.space_id = $1 and q.chunk_id = c.id)
and not exists (select 1 from memory_embedding_pending w where w.space_id = $1 and w.chunk_id = c.id))
"""


async def any_up_to(conn: Conn, space_id: int, bound: int, project_id: int | None) -> bool:
    """Whether a live chunk (of a project) up to an id has no vector, and is neither in quarantine nor pending.

    Looks at all of them.
    """
    return bool(await conn.fetchval(vectors.for_space(_ANY_UP_TO, space_id), space_id, bound, project_id))


@dataclass(frozen=True, slots=True)
class Balance:
    """What a space has and lacks at one moment, by counters and by what is kept about chunks without a vector."""

    chunks: int
    """Live ones."""
    vectors: int
    quarantined: int
    pending: int

    @property
    def unaccounted(self) -> int:
        """Chunks without a vector that nobody is to make one for."""
        return self.chunks - self.vectors - self.quarantined - self.pending


_BALANCE = """
select coalesce((select sum(n) from memory_embedding_counters where scope = $2), 0)::bigint as chunks,
coalesce((select sum(n) from memory_embedding_counters where scope = $1), 0)::bigint as vectors,
(select count(*) from memory_embedding_quarantine where space_id = $1) as quarantined,
(select count(*) from memory_embedding_pending where space_id = $1) as pending
"""


async def balance(conn: Conn, space_id: int) -> Balance:
    """The balance of a space. It never looks at the chunks themselves."""
    return Balance(**dict(await conn.fetchrow(_BALANCE, space_id, registry.CHUNKS) or {}))


def _counting(which: str) -> str:
    """How many chunks are walked, and the last one; `which` is a further condition."""
    return f"""
select count(*) as chunks, coalesce(max(w.id), 0) as bound from (select c.id from memory_chunks c
  where c.live and ($2::int is null or c.project_id = $2) {which}
  and not exists (select 1 from memory_embedding_pending w where w.space_id = $1 and w.chunk_id = c.id)
  order by c.id limit $3) w
"""


_COUNT_LIVE = _counting("")

_COUNT_LACKING = _counting("and not exists (select 1 from {vectors} v where v.chunk_id = c.id)")

_COUNT_PENDING = """select count(*) from memory_embedding_pending where space_id = $1"""


async def count_all(conn: Conn, space_id: int, *, have_too: bool) -> int:
    """Live chunks that lack a vector in a space and are not pending, by the counters; `have_too`: all of them."""
    counted = await registry.counted(conn)
    pending = int(await conn.fetchval(_COUNT_PENDING, space_id))
    return max(0, counted.get(registry.CHUNKS, 0) - pending - (0 if have_too else counted.get(space_id, 0)))


async def count(
    conn: Conn, space_id: int, project_id: int | None, most: int | None, *, have_too: bool
) -> tuple[int, int]:
    """Live chunks of a project that lack a vector in a space and are not pending, the first `most` of them.

    Counted one by one; `have_too`: those with a vector too. How many there are, and the id of the last one.
    """
    statement = _COUNT_LIVE if have_too else vectors.for_space(_COUNT_LACKING, space_id)
    row = await fetch_one(conn, statement, space_id, project_id, most)
    return row["chunks"], row["bound"]


_PENDING_BY_SPACE = """
select space_id, count(*) as n from memory_embedding_pending where space_id = any($1) group by space_id
"""


async def pending(conn: Conn, space_ids: Iterable[int]) -> dict[int, int]:
    """Chunks that wait for a vector outside a fill, by space."""
    rows = await conn.fetch(_PENDING_BY_SPACE, list(space_ids))
    return {row["space_id"]: row["n"] for row in rows}
