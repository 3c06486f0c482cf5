"""What a job would have to do, counted without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memory_operator.memory.chunking import BYTES_PER_TOKEN, MAX_CHUNK_BYTES
from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.memories.text_sums import CIPHER_BYTES
from memory_operator.store.spaces import vectors
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.spaces.vectors import Reach

Which = Literal["missing", "outdated", "all"]
"""Which chunks are to get a vector: those without one, also those that were cut by other versions, or all live ones."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What is there, and what is to be done."""

    chunks: int
    """Live ones."""
    already_there: int
    """Chunks that keep the vector they have."""
    copied: int
    """Chunks that are given the vector of an equal text."""
    to_embed: int
    """Texts that are sent."""
    bytes: int
    """Of those texts, as UTF-8."""
    tokens: int
    """About as many tokens as these texts have: bytes ÷ 4 of each, at least 1."""
    too_large: int
    """Chunks that are skipped as they are larger than anything that is sent."""
    pending: int
    """Chunks that wait for the embedder in any case: no job makes their vectors."""


_COUNT = f"""
with scope as (select c.id, c.content_hash, octet_length(c.text) - {CIPHER_BYTES} as size,
  v.chunk_id is not null and ($2 = 'missing' or coalesce(c.id > $8::bigint, false) or ($2 = 'outdated'
    and (c.chunker_version, c.preprocessing_version) = ($3::int, $4::int))) as keeps,
  w.chunk_id is not null and $2 <> 'outdated' as waits
  from memory_chunks c left join {{vectors}} v on v.chunk_id = c.id
  left join memory_embedding_pending w on w.space_id = $7 and w.chunk_id = c.id
  where c.live and ($1::int is null or c.project_id = $1)),
texts as (select content_hash, max(size) as size, count(*) as n from scope where not keeps and not waits
  and ($8::bigint is null or id <= $8::bigint) group by content_hash),
known as (select c.content_hash from memory_chunks c join {{vectors}} v on v.chunk_id = c.id
  where c.live and $2 <> 'all'
  union select c.content_hash from memory_chunks c join memory_embedding_pending w on w.chunk_id = c.id
  where w.space_id = $7 and c.live and $2 = 'missing'),
todo as (select t.content_hash, t.n, t.size + $5::int as size, t.size > $6 as large,
  $2 = 'missing' and k.content_hash is not null as known from texts t left join known k using (content_hash))
select (select count(*) from scope) as chunks, (select count(*) from scope where keeps) as already_there,
(select count(*) from scope where waits) as pending,
coalesce(sum(n) filter (where known), 0)::bigint
  + coalesce(sum(n - 1) filter (where not known and not large), 0)::bigint as copied,
count(*) filter (where not known and not large) as to_embed,
coalesce(sum(size) filter (where not known and not large), 0)::bigint as bytes,
coalesce(sum(greatest(1, (size + {BYTES_PER_TOKEN - 1}) / {BYTES_PER_TOKEN}))
  filter (where not known and not large), 0)::bigint as tokens,
coalesce(sum(n) filter (where not known and large), 0)::bigint as too_large from todo
"""


async def count(
    conn: Conn, space: Space, reach: Reach, which: Which, versions: tuple[int, int], prefix_bytes: int
) -> Counted:
    """Count what a job of a space would do with the chunks in reach; what there is, is counted beyond that id too.

    `versions` are those of the chunker and of the preprocessing; `prefix_bytes` goes before each text. Texts that a
    project shares with others are copied from anywhere.
    """
    row = await fetch_one(
        conn,
        vectors.for_space(_COUNT, space.id),
        reach.project_id,
        which,
        *versions,
        prefix_bytes,
        MAX_CHUNK_BYTES,
        space.id,
        reach.upto_id,
    )
    return Counted(**dict(row))


_LAST_RATE = """
select (j.done / nullif(extract(epoch from coalesce(j.finished_at, now()) - j.first_call_at), 0))::float8
from memory_reembed_jobs j join memory_embedding_spaces s on s.id = j.space_id
where s.provider_namespace = $2 and s.provider_name = $3 and j.first_call_at is not null and j.done > 0
order by j.space_id = $1 desc, j.id desc limit 1
"""


async def last_rate(conn: Conn, space: Space) -> float | None:
    """Chunks a second of the last job that made vectors for a space, else for another one of its Provider."""
    rate = await conn.fetchval(_LAST_RATE, space.id, *space.ref)
    return None if rate is None or rate <= 0 else float(rate)
