"""The consent table: recorded by anyone who may, consumed once, by the transaction that discards vectors."""

from __future__ import annotations

from datetime import timedelta

from memory_operator.contract.resource import ProviderRef
from memory_operator.plan.consent import Marker
from memory_operator.store.db.pool import Conn, Row, fetch_one

CHANNEL = "memory_consent"
"""NOTIFY channel of the table's trigger."""

_COLUMNS = "id, target_dim, provider, created_at, created_by, expires_at, consumed_at, consumed_by, withdrawn_at"


def _marker(row: Row) -> Marker:
    return Marker(**dict(row))


_MARKERS = f"""
select {_COLUMNS} from memory_embedding_dim_change_consent order by created_at desc, id desc limit $1
"""


async def markers(conn: Conn, limit: int = 1000) -> list[Marker]:
    """The newest markers, newest first, in every state."""
    rows = await conn.fetch(_MARKERS, limit)
    return [_marker(row) for row in rows]


_GET = f"""select {_COLUMNS} from memory_embedding_dim_change_consent where id = $1"""


async def get(conn: Conn, marker_id: int) -> Marker | None:
    """One marker."""
    row = await conn.fetchrow(_GET, marker_id)
    return _marker(row) if row else None


_RECORD = f"""
insert into memory_embedding_dim_change_consent (target_dim, provider, created_by, expires_at)
values ($1, $2, $3, now() + $4) returning {_COLUMNS}
"""


async def record(conn: Conn, target_dim: int, provider: str | None, by: str, ttl: timedelta) -> Marker:
    """Store a marker."""
    row = await fetch_one(conn, _RECORD, target_dim, provider, by, ttl)
    return _marker(row)


_WITHDRAW = """
update memory_embedding_dim_change_consent set withdrawn_at = coalesce(withdrawn_at, now())
where id = $1 and consumed_at is null returning true
"""


async def withdraw(conn: Conn, marker_id: int) -> bool:
    """Withdraw one marker by hand; False when it is consumed or unknown."""
    return bool(await conn.fetchval(_WITHDRAW, marker_id))


_LOCK_VALID = f"""
select {_COLUMNS} from memory_embedding_dim_change_consent
where id = $1 and consumed_at is null and withdrawn_at is null and expires_at > now() for update
"""


async def lock_valid(conn: Conn, marker_id: int) -> Marker | None:
    """Re-read a marker under a lock; None when it is no longer valid."""
    row = await conn.fetchrow(_LOCK_VALID, marker_id)
    return _marker(row) if row else None


_CONSUME = """
update memory_embedding_dim_change_consent set consumed_at = now(), consumed_by = $2 where id = $1
"""


async def consume(conn: Conn, marker: Marker, ref: ProviderRef) -> None:
    """Use a marker up, and withdraw every other valid one that could open the same gate again."""
    await conn.execute(_CONSUME, marker.id, str(ref))
    await withdraw_matching(conn, ref, marker.target_dim, also_unnamed=True)


_WITHDRAW_MATCHING = """
update memory_embedding_dim_change_consent set withdrawn_at = now()
where target_dim = $1 and (provider = $2 or ($3 and provider is null))
and consumed_at is null and withdrawn_at is null and expires_at > now() returning 1
"""


async def withdraw_matching(conn: Conn, ref: ProviderRef, target_dim: int, *, also_unnamed: bool) -> int:
    """Withdraw the valid markers for a dimension that could apply to a Provider; how many there were."""
    gone = await conn.fetch(_WITHDRAW_MATCHING, target_dim, str(ref), also_unnamed)
    return len(gone)
