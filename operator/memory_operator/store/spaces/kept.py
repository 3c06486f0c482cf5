"""Spaces that an edit replaced and that keep getting new memories for a while, so that `activate` leads back at once.

Release 0.1 knows nothing of this: what it writes meanwhile is missing in such a space, which its counters tell.
"""

from __future__ import annotations

from decimal import Decimal

from memory_operator.contract.provider import DEFAULT_KEEP_SECONDS
from memory_operator.contract.resource import ProviderRef
from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces import registry

_BEGIN = """
update memory_embedding_spaces s set kept_until = now() + make_interval(secs => k.seconds), keep_ended = null,
kept_tokens = 0, kept_cost = null
from (select coalesce((select p.keep_seconds from memory_providers p where p.namespace = $2 and p.name = $3), $4)
  as seconds) k
where s.id = $1 and s.state = 'retired' and s.create_enabled and k.seconds > 0
"""


async def begin(conn: Conn, space_id: int, ref: ProviderRef) -> None:
    """Keep a space that has just been retired, for as long as its Provider says."""
    await conn.execute(_BEGIN, space_id, *ref, DEFAULT_KEEP_SECONDS)


_FOLLOW = """
update memory_embedding_spaces s set kept_until = k.until
from (select o.id, o.state_changed_at + make_interval(secs => coalesce(p.keep_seconds, $3)) as until
  from memory_providers p join memory_embedding_spaces o on o.provider_namespace = p.namespace
    and o.provider_name = p.name
  where p.namespace = $1 and p.name = $2 and o.state = 'retired' and o.kept_until > now()) k
where s.id = k.id and s.kept_until <> k.until
"""


async def follow(conn: Conn, ref: ProviderRef) -> None:
    """Keep a Provider's replaced spaces for as long as it says by now, counted from when they were replaced."""
    await conn.execute(_FOLLOW, *ref, DEFAULT_KEEP_SECONDS)


_END = """
update memory_embedding_spaces set kept_until = null, keep_ended = $2 where id = $1 and kept_until > now()
returning true
"""


async def end(conn: Conn, space_id: int, reason: str) -> bool:
    """Keep a space no longer, and say why; False where it was not kept."""
    ended = bool(await conn.fetchval(_END, space_id, reason))
    if ended:
        await registry.announce(conn)
    return ended


_SPEND = """
update memory_embedding_spaces set kept_tokens = least(kept_tokens::numeric + $2, 9223372036854775807)::bigint,
kept_cost = case when $3::numeric is null then kept_cost else coalesce(kept_cost, 0) + $3 end where id = $1
"""


async def spend(conn: Conn, space_id: int, tokens: int, cost: Decimal | None) -> None:
    """Add what calls for a kept space took."""
    await conn.execute(_SPEND, space_id, tokens, cost)


_FORGET_PENDING = """
delete from memory_embedding_pending where ctid in (
  select w.ctid from memory_embedding_spaces s join memory_embedding_pending w on w.space_id = s.id
  where s.state = 'retired' and (s.kept_until is null or s.kept_until <= now()) limit $1)
"""


async def forget_pending(conn: Conn, most: int) -> None:
    """Wait no longer for vectors in spaces that are retired and not kept: the way back finds what they lack."""
    await conn.execute(_FORGET_PENDING, most)
