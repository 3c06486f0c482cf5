"""New versions of memories with their chunks, vectors, pending marks and counters: all of it in one statement.

It runs after the registry's shared lock in the same transaction, and looks by itself at which spaces there are: vectors
go to those of the given spaces that still accept writes, and every other chunk is pending where it has no vector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from memory_operator.memory.languages import LATIN
from memory_operator.store.db.pool import Conn
from memory_operator.store.memories import fulltext
from memory_operator.store.memories.memories import NewChunk, NewVersion, language_of
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import ACCEPTING, Space

BEGIN = f"set local plan_cache_mode = force_generic_plan; {registry.LOCK_REGISTRY_SHARED}"
"""What the transaction begins with: any plan of the statement is good for all values, so that one is kept."""

Vectors = Mapping[int, NDArray[np.float32]]
"""By number of the chunk, each of shape (dimensions,)."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A version to be stored, and the vectors that its chunks have been given."""

    version: NewVersion
    """Its `tokens` and `cost` are stored where the active space gets all its vectors at once."""
    chunks: Sequence[NewChunk]
    made: Mapping[int, Vectors]
    """By space."""
    complete: Sequence[int]
    """Spaces in which every chunk has a vector once this is stored."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A version as it was stored."""

    id: int
    created_at: datetime
    embedding_version: str | None
    """The active space, where all vectors of this version are in it."""
    tokens: int | None
    cost: Decimal | None
    pending: bool
    """Whether chunks of any version of the same statement wait for workers."""


_STATEMENT = f"""
with writable as materialized (
  select s.id, s.embedding_version, s.id is not distinct from r.active_space_id as active
  from memory_embedding_spaces s cross join memory_registry r where {ACCEPTING}),
version as materialized (
  select * from unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::text[],
    $9::text[], $10::text[], $11::real[], $12::real[], $13::bigint[], $14::numeric[], $15::text[]) with ordinality
  as v (canonical_id, version_no, project_id, created_by, input, summary, metadata, type, tags, source, importance,
    confidence, tokens, cost, lexeme, number)),
entry as (
  insert into memory_entries (canonical_id, version_no, project_id, created_by, input, summary, metadata, type, tags,
    source, importance, confidence, embedding_version, tokens, cost)
  select v.canonical_id, v.version_no, v.project_id, v.created_by, v.input, v.summary, v.metadata, v.type,
    array(select jsonb_array_elements_text(v.tags::jsonb)), v.source, v.importance, v.confidence, s.embedding_version,
    case when s.embedding_version is not null then v.tokens end,
    case when s.embedding_version is not null then v.cost end
  from version v left join (
    select f.number, w.embedding_version from unnest($16::int[], $17::bigint[]) as f (number, space_id)
    join writable w on w.id = f.space_id and w.active) s using (number)
  order by v.number returning id, canonical_id, embedding_version, tokens, cost, created_at),
place as materialized (
  select v.number, v.project_id, v.lexeme, e.id as entry_id from version v join entry e using (canonical_id)),
chunk as (
  insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,
    preprocessing_version, language)
  select v.entry_id, v.project_id, n.ordinal, n.text, n.content_hash,
    to_tsvector(coalesce(l.name, 'english')::regconfig, n.indexed) || array_to_tsvector(array[v.lexeme]), $24, $25,
    l.name
  from unnest($18::int[], $19::int[], $20::bytea[], $21::bytea[], $22::text[], $23::text[])
    as n (number, ordinal, text, content_hash, indexed, language)
  join place v using (number) join memory_projects p on p.id = v.project_id
  cross join lateral (select {language_of("v.project_id", "$26")} as name) l
  order by n.number, n.ordinal returning id, entry_id, project_id, ordinal, language),
noted as (
  update memory_projects p set languages = array(select distinct unnest(p.languages || u.names) order by 1)
  from (select q.id, case q.language when 'auto' then array_agg(distinct c.language) else array[q.language] end as names
    from chunk c join memory_projects q on q.id = c.project_id where c.language is not null group by q.id) u
  where p.id = u.id and not p.languages @> u.names),
{{stored}}
waiting as (
  insert into memory_embedding_pending (space_id, chunk_id)
  select w.id, c.id from writable w cross join chunk c
  where not exists (select from ({{there}}) t where t.space_id = w.id and t.chunk_id = c.id)
  order by 1, 2 on conflict do nothing returning 1),
counted as (
  insert into memory_embedding_counters as c (scope, slot, n)
  select d.scope, {registry.FREE_SLOT}, d.n from (
    select {registry.CHUNKS}::bigint as scope, count(*) as n from chunk
    union all select t.space_id, count(*) from ({{there}}) t group by t.space_id) d
  where d.n > 0 order by d.scope on conflict (scope, slot) do update set n = c.n + excluded.n)
select e.id, e.created_at, e.embedding_version, e.tokens, e.cost, exists (select from waiting) as pending
from entry e join version v using (canonical_id) order by v.number
"""

_VALUES = 26

_INTO_SPACE = """
{stored} as (
  insert into {vectors} (chunk_id, project_id, embedding)
  select c.id, c.project_id, g.embedding
  from unnest(${first}::int[], ${second}::int[], ${third}::{column}[]) as g (number, ordinal, embedding)
  join place v using (number) join chunk c on c.entry_id = v.entry_id and c.ordinal = g.ordinal
  where exists (select from writable w where w.id = {number}) order by c.id
  returning {number}::bigint as space_id, chunk_id),
"""

_NOWHERE = "select null::bigint as space_id, null::bigint as chunk_id where false"


def statement(spaces: Sequence[tuple[int, str]]) -> str:
    """The statement that stores versions with vectors of these spaces: the id of each, and the type of its column."""
    stored = [
        vectors.for_space(
            _INTO_SPACE,
            space_id,
            stored=f"stored_{number}",
            number=str(int(space_id)),
            column=column,
            **{place: str(_VALUES + 1 + 3 * number + more) for more, place in enumerate(("first", "second", "third"))},
        )
        for number, (space_id, column) in enumerate(spaces)
    ]
    there = " union all ".join(f"select space_id, chunk_id from stored_{number}" for number in range(len(spaces)))
    return _STATEMENT.format(stored="".join(stored).strip(), there=there or _NOWHERE)


async def insert(
    conn: Conn, additions: Sequence[Addition], spaces: Sequence[Space], versions: tuple[int, int]
) -> list[Stored]:
    """Store versions of different memories, in their order. The transaction began with BEGIN, or has its lock.

    `spaces` are those that vectors were made for; `versions` those of the chunker and of the preprocessing. Raises
    SpaceVanished where one of the spaces was discarded.
    """
    rows = await conn.fetch(
        statement([(space.id, space.column_type) for space in spaces]),
        *_of_versions([addition.version for addition in additions]),
        *_columns([(n, space_id) for n, addition in enumerate(additions, 1) for space_id in addition.complete], 2),
        *_columns(
            [
                (n, ordinal, chunk.text, chunk.content_hash, chunk.indexed, chunk.language)
                for n, addition in enumerate(additions, 1)
                for ordinal, chunk in enumerate(addition.chunks)
            ],
            6,
        ),
        *versions,
        list(LATIN),
        *(column for space in spaces for column in _of_space(additions, space)),
    )
    return [Stored(**dict(row)) for row in rows]


def _of_versions(news: Sequence[NewVersion]) -> list[list[object]]:
    rows = [
        (
            new.canonical_id,
            new.version_no,
            new.project_id,
            new.created_by,
            new.input,
            new.attributes.summary,
            new.attributes.metadata,
            new.attributes.type,
            json.dumps(new.attributes.tags),
            new.attributes.source,
            new.attributes.importance,
            new.attributes.confidence,
            new.tokens,
            new.cost,
            fulltext.project_lexeme(new.project_id),
        )
        for new in news
    ]
    return _columns(rows, 15)


def _of_space(additions: Sequence[Addition], space: Space) -> list[list[object]]:
    kind = HalfVector if space.column_type == "halfvec" else Vector
    return _columns(
        [
            (n, ordinal, kind(vector))
            for n, addition in enumerate(additions, 1)
            for ordinal, vector in addition.made.get(space.id, {}).items()
        ],
        3,
    )


def _columns(rows: Sequence[tuple[object, ...]], count: int) -> list[list[object]]:
    """The columns of rows, each as the array of a parameter."""
    return [[row[number] for row in rows] for number in range(count)]
