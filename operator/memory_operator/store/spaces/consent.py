"""The consent table: recorded by anyone who may, consumed once, by the transaction that discards vectors.

What is expired is decided here, by the database's clock.
"""

from __future__ import annotations

from datetime import timedelta

from memory_operator.contract.resource import ProviderRef
from memory_operator.plan.consent import Marker
from memory_operator.store.db.pool import Conn, Row, fetch_one

CHANNEL = "memory_consent"
"""NOTIFY channel of the table's trigger."""

_VALID = "m.consumed_at is null and m.withdrawn_at is null and m.expires_at > now()"


_COLUMNS = """m.id, m.target_dim, m.provider, m.created_by, m.consumed_by,
  m.created_at, m.expires_at, m.consumed_at, m.withdrawn_at,
  case when m.consumed_at is not null then 'consumed'
    when m.withdrawn_at is not null then 'withdrawn'
    when m.expires_at > now() then 'valid'
    else 'expired' end as state"""

_SERVES = """case when b.marker_id is null then 'any'
    when (b.namespace, b.name) = ($1, $2) and b.change_since = c.since then 'this'
    else 'other' end as serves"""

_OF_CHANGE = """memory_embedding_dim_change_consent m
  left join memory_consent_bindings b on b.marker_id = m.id
  left join memory_pending_changes c on (c.namespace, c.name) = ($1, $2) and c.to_dim = m.target_dim"""


def _marker(row: Row) -> Marker:
    return Marker(**dict(row))


_NEWEST = f"""
select {_COLUMNS} from memory_embedding_dim_change_consent m
order by m.created_at desc, m.id desc
limit $1
"""


async def markers(conn: Conn, limit: int = 1000) -> list[Marker]:
    """The newest markers, newest first, in every state."""
    return [_marker(row) for row in await conn.fetch(_NEWEST, limit)]


_NEWEST_FOR_PROVIDER = f"""
select {_COLUMNS}, {_SERVES} from {_OF_CHANGE}
where m.provider is null or m.provider = $1 || '/' || $2
order by m.created_at desc, m.id desc
limit 1000
"""


async def markers_for(conn: Conn, ref: ProviderRef) -> list[Marker]:
    """The newest markers that could be for a Provider, newest first, in every state, with what each serves."""
    return [_marker(row) for row in await conn.fetch(_NEWEST_FOR_PROVIDER, *ref)]


_GET = f"select {_COLUMNS} from memory_embedding_dim_change_consent m where m.id = $1"


async def get(conn: Conn, marker_id: int) -> Marker | None:
    """One marker."""
    row = await conn.fetchrow(_GET, marker_id)
    return _marker(row) if row else None


_RECORD = f"""
insert into memory_embedding_dim_change_consent as m (target_dim, provider, created_by, expires_at)
values ($1, $2, $3, now() + $4)
returning {_COLUMNS}
"""


async def record(conn: Conn, target_dim: int, provider: str, by: str, ttl: timedelta) -> Marker:
    """Store a marker for one Provider; it is bound to the change that is held for it at that dimension, if one is."""
    return _marker(await fetch_one(conn, _RECORD, target_dim, provider, by, ttl))


_BIND = f"""
insert into memory_consent_bindings (marker_id, namespace, name, change_since)
select m.id, c.namespace, c.name, c.since
from memory_pending_changes c
join memory_embedding_dim_change_consent m on m.target_dim = c.to_dim
where (c.namespace, c.name) = ($1, $2) and {_VALID}
  and (m.provider = $1 || '/' || $2 or ($3 and m.provider is null))
on conflict (marker_id) do nothing
"""


async def bind(conn: Conn, ref: ProviderRef, *, also_unnamed: bool) -> None:
    """Let the valid markers that were recorded in advance of a Provider's held change serve it and no other."""
    await conn.execute(_BIND, *ref, also_unnamed)


_WITHDRAW = """
update memory_embedding_dim_change_consent set withdrawn_at = coalesce(withdrawn_at, now())
where id = $1 and consumed_at is null
returning true
"""


async def withdraw(conn: Conn, marker_id: int) -> bool:
    """Withdraw one marker by hand; False when it is consumed or unknown."""
    return bool(await conn.fetchval(_WITHDRAW, marker_id))


_LOCK_VALID = f"""
select {_COLUMNS}, {_SERVES} from {_OF_CHANGE}
where m.id = $3 and {_VALID}
for update of m
"""


async def lock_valid(conn: Conn, marker_id: int, ref: ProviderRef) -> Marker | None:
    """Re-read a marker under a lock, with what it serves; None when it is no longer valid."""
    row = await conn.fetchrow(_LOCK_VALID, *ref, marker_id)
    return _marker(row) if row else None


_CONSUME = """
update memory_embedding_dim_change_consent set consumed_at = now(), consumed_by = $2
where id = $1
"""


async def consume(conn: Conn, marker: Marker, ref: ProviderRef) -> None:
    """Use a marker up, and withdraw every other valid one that could open the same gate again."""
    await conn.execute(_CONSUME, marker.id, str(ref))
    await withdraw_matching(conn, ref, marker.target_dim, also_unnamed=True)


_WITHDRAW_MATCHING = f"""
update memory_embedding_dim_change_consent m set withdrawn_at = now()
where m.target_dim = $3 and {_VALID}
  and case when exists (select 1 from memory_consent_bindings b where b.marker_id = m.id)
    then exists (select 1 from memory_consent_bindings b
      where b.marker_id = m.id and (b.namespace, b.name) = ($1, $2))
    else m.provider = $1 || '/' || $2 or ($4 and m.provider is null) end
returning 1
"""


async def withdraw_matching(conn: Conn, ref: ProviderRef, target_dim: int, *, also_unnamed: bool) -> int:
    """Withdraw the valid markers for a dimension that serve a Provider's change, or could; how many there were."""
    return len(await conn.fetch(_WITHDRAW_MATCHING, *ref, target_dim, also_unnamed))
