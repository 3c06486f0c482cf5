"""Memories: versions, their chunks, and what becomes of them when they are replaced, forgotten or purged.

The order inside a transaction is always the same: the registry, the memory, its chunks by id, the counters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from memory_operator.memory.attributes import Attributes, SealedAttributes
from memory_operator.memory.languages import LATIN
from memory_operator.store.db.pool import Conn, Row, translate_errors
from memory_operator.store.memories import fulltext, languages
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import Space


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to be stored; what a user wrote is sealed already."""

    canonical_id: UUID
    version_no: int
    project_id: int
    created_by: str
    input: bytes | None = None
    attributes: SealedAttributes = field(default_factory=SealedAttributes)
    tokens: int | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A stored version."""

    id: int
    canonical_id: UUID
    version_no: int
    project_id: int
    project: str
    current: bool
    tombstone: bool
    input: bytes | None
    """None for a tombstone, and for what was purged."""
    attributes: SealedAttributes
    embedding_version: str | None
    """The space that was active when this was written and got its vectors at once; None where it did not."""
    tokens: int | None
    cost: Decimal | None
    created_by: str
    created_at: datetime

    @property
    def purged(self) -> bool:
        """Whether its content was erased."""
        return self.input is None and not self.tombstone


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to be stored."""

    text: bytes
    """Sealed."""
    content_hash: bytes
    indexed: str
    """What full-text search finds it by; only the index of it is kept."""
    language: str | None = "english"
    """The text search configuration that fits it, unless the project has one for all; None where it does not show."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What a purge erased, counted before, and found to be gone after."""

    versions: int
    chunks: int
    vectors: dict[str, int]
    """By embedding version."""


def _columns(shown: str) -> str:
    return f"""
e.id, e.canonical_id, e.version_no, e.project_id, p.slug as project, e.current, e.tombstone, {shown} as input,
e.summary, e.metadata, e.type, e.tags, e.source, e.importance, e.confidence, e.embedding_version, e.tokens,
e.cost, e.created_by, e.created_at"""


COLUMNS = _columns("e.input")
FROM = "from memory_entries e join memory_projects p on p.id = e.project_id"


def version_of(row: Row | Mapping[str, Any]) -> Version:
    """A version from a row of COLUMNS."""
    stored = dict(row)
    attributes = {each.name: stored.pop(each.name) for each in fields(Attributes)}
    return Version(**stored, attributes=SealedAttributes(**{**attributes, "tags": tuple(attributes["tags"])}))


_CURRENT = f"""select {COLUMNS} {FROM} where e.canonical_id = $1 and p.tenant_id = $2 and e.current"""


async def current(conn: Conn, tenant_id: int, canonical_id: UUID) -> Version | None:
    """The current version of a tenant's memory, which may be a tombstone."""
    row = await conn.fetchrow(_CURRENT, canonical_id, tenant_id)
    return version_of(row) if row else None


_LOCK_CURRENT = f"""
select {COLUMNS} {FROM} where e.canonical_id = $1 and p.tenant_id = $2 and e.current for update of e
"""


async def lock_current(conn: Conn, tenant_id: int, canonical_id: UUID) -> Version | None:
    """The same, locked until the transaction ends. Raises LockBusy."""
    row = await conn.fetchrow(_LOCK_CURRENT, canonical_id, tenant_id)
    return version_of(row) if row else None


_HISTORY = f"""
select {COLUMNS} {FROM} where e.canonical_id = $1 and p.tenant_id = $2
and ($3::int is null or e.version_no < $3) order by e.version_no desc limit $4
"""


async def history(
    conn: Conn, tenant_id: int, canonical_id: UUID, before_version: int | None, limit: int
) -> list[Version]:
    """Versions of a memory below `before_version` (None: from the newest on), newest first."""
    rows = await conn.fetch(_HISTORY, canonical_id, tenant_id, before_version, limit)
    return [version_of(row) for row in rows]


_INSERT_TOMBSTONE = """
insert into memory_entries (canonical_id, version_no, project_id, created_by, tombstone) values ($1, $2, $3, $4, true)
"""


async def insert_tombstone(conn: Conn, old: Version, by: str) -> None:
    """Store a tombstone as the current version, after the one before, which is retired already."""
    await conn.execute(_INSERT_TOMBSTONE, old.canonical_id, old.version_no + 1, old.project_id, by)


def language_of(project: str, latin: str) -> str:
    """The configuration that a new chunk `n` of a project `p` is indexed with.

    One that shows no language has that of most of the newest ones, and null, which is english, before any shows one.
    """
    return f"""
case when p.language <> 'auto' then p.language when n.language is not null then n.language
else (select c.language from (select language from memory_chunks where project_id = {project} and live
  order by id desc limit 100) c where c.language = any({latin}) group by c.language order by count(*) desc, 1 limit 1)
end"""


_INSERT_CHUNKS = f"""
insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,
preprocessing_version, language)
select $1, $2, n.ordinal, n.text, n.content_hash,
  to_tsvector(coalesce(l.name, 'english')::regconfig, n.indexed) || array_to_tsvector(array[$9]::text[]), $3, $4, l.name
from unnest($5::int[], $6::bytea[], $7::bytea[], $8::text[], $10::text[])
  as n (ordinal, text, content_hash, indexed, language)
cross join (select language from memory_projects where id = $2) p
cross join lateral (select {language_of("$2", "$11")} as name) l
order by n.ordinal returning id, ordinal, language
"""


async def insert_chunks(
    conn: Conn, entry_id: int, project_id: int, chunks: Sequence[NewChunk], versions: tuple[int, int]
) -> list[int]:
    """Store the chunks of a version in one round trip; their ids, in their order.

    `versions` are those of the chunker and of the preprocessing.
    """
    rows = await conn.fetch(
        _INSERT_CHUNKS,
        entry_id,
        project_id,
        *versions,
        list(range(len(chunks))),
        [chunk.text for chunk in chunks],
        [chunk.content_hash for chunk in chunks],
        [chunk.indexed for chunk in chunks],
        fulltext.project_lexeme(project_id),
        [chunk.language for chunk in chunks],
        list(LATIN),
    )
    used = {str(row["language"]) for row in rows if row["language"]}
    if used - {"english"}:  # which every project has
        await languages.note(conn, project_id, sorted(used))
    return [row["id"] for row in sorted(rows, key=lambda row: row["ordinal"])]


_HASHES_WITH_VECTOR = """
select c.content_hash from memory_chunks c join {vectors} v on v.chunk_id = c.id
where c.entry_id = $1
"""


async def hashes_with_vector(conn: Conn, space: Space, entry_id: int) -> set[bytes]:
    """Content hashes of a version's chunks that have a vector in a space. Raises SpaceVanished."""
    rows = await conn.fetch(vectors.for_space(_HASHES_WITH_VECTOR, space.id), entry_id)
    return {row["content_hash"] for row in rows}


_CARRY_OVER = """
with carried as (insert into {vectors} (chunk_id, project_id, embedding)
  select distinct on (n.id) n.id, n.project_id, v.embedding from memory_chunks n
  join memory_chunks o on o.entry_id = $1 and o.content_hash = n.content_hash
  join {vectors} v on v.chunk_id = o.id where n.entry_id = $2 order by n.id
  on conflict (chunk_id) do nothing returning chunk_id),
unmarked as (delete from memory_embedding_pending p using carried c where p.space_id = $3 and p.chunk_id = c.chunk_id)
select count(*) from carried
"""


async def carry_over(conn: Conn, space: Space, old_entry_id: int, new_entry_id: int) -> int:
    """Give chunks of a new version the vectors of the same texts in the old one; how many got one."""
    return int(await conn.fetchval(vectors.for_space(_CARRY_OVER, space.id), old_entry_id, new_entry_id, space.id))


_PENDING_IN = """
select distinct p.space_id from memory_embedding_pending p join memory_chunks c on c.id = p.chunk_id
where c.entry_id = $1
"""


async def pending_in(conn: Conn, entry_id: int) -> set[int]:
    """The spaces in which chunks of a version wait for their vectors."""
    return {row["space_id"] for row in await conn.fetch(_PENDING_IN, entry_id)}


_MARK_PENDING = """
insert into memory_embedding_pending (space_id, chunk_id) select $1, unnest($2::bigint[])
on conflict do nothing
"""


async def mark_pending(conn: Conn, space_id: int, chunk_ids: Sequence[int]) -> None:
    """Leave chunks without a vector in a space to the workers."""
    await conn.execute(_MARK_PENDING, space_id, list(chunk_ids))


_NOT_EMBEDDED = """
update memory_entries set embedding_version = null, tokens = null, cost = null where id = $1
"""


async def not_embedded(conn: Conn, entry_id: int) -> None:
    """Take back that a version got its vectors at once."""
    await conn.execute(_NOT_EMBEDDED, entry_id)


_RETIRE = """update memory_entries set current = false where id = $1"""


async def retire(conn: Conn, entry_id: int) -> None:
    """Make room for the next version. Its chunks stay live until `retire_chunks`, so that it can inherit vectors."""
    await conn.execute(_RETIRE, entry_id)


_LOCK_LIVE_CHUNKS = """select id from memory_chunks where entry_id = $1 and live order by id for update"""

_RETIRE_CHUNKS = """update memory_chunks set live = false where id = any($1)"""


async def retire_chunks(conn: Conn, entry_id: int) -> dict[int, int]:
    """Take a version's chunks out of search, and their vectors out of every space; changes of the counters."""
    rows = await conn.fetch(_LOCK_LIVE_CHUNKS, entry_id)
    ids = [row["id"] for row in rows]
    await conn.execute(_RETIRE_CHUNKS, ids)
    return {**await vectors.forget(conn, ids), registry.CHUNKS: -len(ids)}


_COUNT_CHUNKS = """select count(*) from memory_chunks where entry_id = $1"""

_COUNT_VECTORS = """
select count(*) from memory_chunks c join {vectors} v on v.chunk_id = c.id
where c.entry_id = $1
"""


async def embedded(conn: Conn, entry_id: int, space_id: int | None) -> tuple[int, int]:
    """Chunks of a version, and how many of them have a vector in a space. Raises SpaceVanished."""
    chunks = int(await conn.fetchval(_COUNT_CHUNKS, entry_id))
    if space_id is None:
        return chunks, 0
    async with translate_errors():
        there = await conn.fetchval(vectors.for_space(_COUNT_VECTORS, space_id), entry_id)
    return chunks, int(there)


_SPACE_NAMES = """select id, embedding_version from memory_embedding_spaces order by id"""

_ERASE_VERSIONS = """
update memory_entries set input = null, summary = null, metadata = null, type = null, tags = '{}',
source = null where canonical_id = $1 returning id
"""

_LOCK_ALL_CHUNKS = """select id, live from memory_chunks where entry_id = any($1) order by id for update"""

_ERASE_CHUNKS = """delete from memory_chunks where id = any($1)"""

_COUNT_CHUNKS_LEFT = """select count(*) from memory_chunks where entry_id = any($1)"""

_COUNT_VECTORS_LEFT = """select count(*) from {vectors} where chunk_id = any($1)"""


async def erase(conn: Conn, canonical_id: UUID) -> tuple[Erased, dict[int, int]]:
    """Erase the texts, chunks and vectors of all versions of a memory; what there was, and counter changes.

    The rows of the versions stay, empty, so that its history can say that there was something. The caller has
    locked the memory, and puts a tombstone in its place.
    """
    entries = [row["id"] for row in await conn.fetch(_ERASE_VERSIONS, canonical_id)]
    chunks = await conn.fetch(_LOCK_ALL_CHUNKS, entries)
    ids = [row["id"] for row in chunks]
    deltas = await vectors.forget(conn, ids)
    names = {row["id"]: row["embedding_version"] for row in await conn.fetch(_SPACE_NAMES)}
    await conn.execute(_ERASE_CHUNKS, ids)
    left = await conn.fetchval(_COUNT_CHUNKS_LEFT, entries)
    for space_id in names:
        left += await conn.fetchval(vectors.for_space(_COUNT_VECTORS_LEFT, space_id), ids)
    if left:
        raise RuntimeError(f"{left} rows of a purged memory are still there")
    gone = {names[space_id]: -delta for space_id, delta in deltas.items() if delta}
    deltas[registry.CHUNKS] = -sum(row["live"] for row in chunks)
    return Erased(len(entries), len(ids), gone), deltas


LONGEST_SHOWN_BYTES = 65_536
"""A query's results show what its author wrote up to this size, and the chunk that was found beyond it."""


@dataclass(frozen=True, slots=True)
class FoundMemory:
    """A memory that is to be shown as the result of a query."""

    version: Version
    """Its input is here only where it is one chunk long, and of at most LONGEST_SHOWN_BYTES."""
    ordinal: int
    """Number of the chunk that was found."""
    chunk: bytes
    """Sealed text of it."""


# The memory's input where it is one chunk long and not too large to be shown.
_FOUND = f"""
select {
    _columns('''case when octet_length(e.input) <= $2 and not exists (select from memory_chunks o
  where o.entry_id = c.entry_id and o.ordinal <> c.ordinal) then e.input end''')
},
c.id as chunk_id, c.ordinal, c.text {FROM} join memory_chunks c on c.entry_id = e.id
where c.id = any($1) and c.live and e.current and not e.tombstone
"""


async def found(conn: Conn, chunk_ids: Sequence[int]) -> dict[int, FoundMemory]:
    """Memories by the chunks they were found by; without those that were replaced or forgotten meanwhile."""
    rows = await conn.fetch(_FOUND, list(chunk_ids), LONGEST_SHOWN_BYTES)
    shown: dict[int, FoundMemory] = {}
    for row in rows:
        stored = dict(row)
        chunk_id, ordinal, chunk = stored.pop("chunk_id"), stored.pop("ordinal"), stored.pop("text")
        shown[chunk_id] = FoundMemory(version_of(stored), ordinal, chunk)
    return shown


_NEIGHBOURS = """
select c.id as chunk_id, n.ordinal, n.text from memory_chunks c
join memory_chunks n on n.entry_id = c.entry_id and n.ordinal between c.ordinal - $2 and c.ordinal + $2
where c.id = any($1) and n.id <> c.id order by n.ordinal
"""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A chunk that stands near another one in its memory."""

    chunk_id: int
    """The other one."""
    ordinal: int
    text: bytes
    """Sealed."""


async def neighbours(conn: Conn, chunk_ids: Sequence[int], reach: int) -> list[Neighbour]:
    """The chunks of the same memory at most `reach` numbers away, in their order."""
    return [Neighbour(**dict(row)) for row in await conn.fetch(_NEIGHBOURS, list(chunk_ids), reach)]
