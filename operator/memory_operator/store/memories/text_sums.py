"""How much text is stored, from sums that the database maintains: what an estimate of tokens is made of."""

from __future__ import annotations

from memory_operator.memory.chunking import BYTES_PER_TOKEN
from memory_operator.store.db.pool import Conn, Store, fetch_one
from memory_operator.store.spaces import registry

CIPHER_BYTES = 29
"""Format, nonce and tag that encryption adds to a text."""

SLICE_IDS = 10_000
"""Chunk ids that one step of the backfill covers: writers wait while it adds them up, about 20 ms."""

_ROUNDING = (BYTES_PER_TOKEN - 1) / (2 * BYTES_PER_TOKEN)
"""Each text is rounded up to whole tokens, which adds so much to the mean."""

_SUMS = """
select coalesce(sum(chunks), 0)::bigint as chunks, coalesce(sum(bytes), 0)::bigint as bytes from memory_text_sums
"""

_NEWEST = """
select count(*) as chunks, coalesce(sum(octet_length(text)), 0)::bigint as bytes
from (select text from memory_chunks where live order by id desc limit 1000) newest
"""


async def estimated_tokens(conn: Conn, prefix_bytes: int) -> int:
    """Tokens of all live chunks, each behind a prefix, as a fill counts them.

    While older chunks are still to be added up, those that were stand for them; before the first, the newest do.
    """
    counted = (await registry.counted(conn, [registry.CHUNKS])).get(registry.CHUNKS, 0)
    summed = await fetch_one(conn, _SUMS)
    if summed["chunks"] <= 0:
        summed = await fetch_one(conn, _NEWEST)
    if counted <= 0 or summed["chunks"] <= 0:
        return 0
    size: float = summed["bytes"] / summed["chunks"] - CIPHER_BYTES + prefix_bytes
    return max(counted, round(counted * (size / BYTES_PER_TOKEN + _ROUNDING)))


_IS_COMPLETE = """select walked >= bound from memory_text_sums_backfill"""

_ADD_SLICE = """
with edge as (select walked, least(bound, walked + $1) as upto from memory_text_sums_backfill),
added as (insert into memory_text_sums as s (project_id, slot, chunks, bytes)
  select c.project_id, 0, count(*), sum(octet_length(c.text)) from memory_chunks c, edge
  where c.live and c.id > edge.walked and c.id <= edge.upto group by c.project_id
  on conflict (project_id, slot) do update set chunks = s.chunks + excluded.chunks, bytes = s.bytes + excluded.bytes)
update memory_text_sums_backfill b set walked = edge.upto from edge where b.walked < b.bound
returning b.walked >= b.bound
"""


async def backfill_slice(store: Store, ids: int = SLICE_IDS) -> bool:
    """Add up some chunks that were stored before the sums were kept; whether all of them have been by now.

    The registry is locked exclusively meanwhile, so that no chunk changes between being counted by this and by its own
    writer. Where it is cut off, it is as if it had not begun.
    """
    async with store.connection() as conn:
        if await conn.fetchval(_IS_COMPLETE):
            return True
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        return await conn.fetchval(_ADD_SLICE, ids) is not False
