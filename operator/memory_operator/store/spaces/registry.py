"""The spaces registry: the one row that says which space is active, and the lock that orders writers and switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory_operator.store.db.pool import Conn, fetch_one

CHANNEL = "memory_spaces"
"""NOTIFY channel that tells the operator that spaces have changed by another hand."""

CHUNKS = 0
"""Scope of the counter of live chunks; every other scope is a space's id."""

_SLOTS = 16


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry row."""

    active_space_id: int | None
    inactive_reason: str
    """Why nothing is active: no_provider, provider_deleted, disabled."""
    ever_active: bool
    restore_space_id: int | None
    """The space that was active when its Provider went away."""


_COLUMNS = "active_space_id, inactive_reason, ever_active, restore_space_id"


_READ = f"""select {_COLUMNS} from memory_registry"""


async def read(conn: Conn) -> Registry:
    """The registry as it is, without a lock."""
    row = await fetch_one(conn, _READ)
    return Registry(**dict(row))


LOCK_REGISTRY_SHARED = """lock table memory_registry in row share mode"""
"""What `lock_registry_shared` sends."""


async def lock_registry_shared(conn: Conn) -> None:
    """Taken first by every transaction that adds or removes chunks; shared among them.

    A lock of the table, as one of its row would be written to the row by each of them.
    """
    await conn.execute(LOCK_REGISTRY_SHARED)


_LOCK_TABLE = """lock table memory_registry in exclusive mode"""

_LOCK_ROW = f"""select {_COLUMNS} from memory_registry for update"""


async def lock_registry_exclusive(conn: Conn) -> Registry:
    """Taken by a barrier, a switch or a reshape: waits for the writers under way and lets no new one in.

    The table comes first: locks of a table queue in their order, but those who share a row overtake who wants it
    alone, for as long as there are always some of them. Reading the table waits for nobody.
    """
    await conn.execute(_LOCK_TABLE)
    row = await fetch_one(conn, _LOCK_ROW)
    return Registry(**dict(row))


_SET_ACTIVE = """
update memory_registry set active_space_id = $1, ever_active = true, restore_space_id = null,
changed_at = now(), changed_by = $2
"""


async def set_active(conn: Conn, space_id: int, by: str) -> None:
    """Make a space the one that queries read. The registry is locked exclusively."""
    await conn.execute(_SET_ACTIVE, space_id, by)


_SET_INACTIVE = """
update memory_registry set restore_space_id = case when $1 = 'provider_deleted' then active_space_id end,
active_space_id = null, inactive_reason = $1, changed_at = now(),
changed_by = $2
"""


async def set_inactive(conn: Conn, reason: str, by: str) -> None:
    """Let no space be active. The registry is locked exclusively."""
    await conn.execute(_SET_INACTIVE, reason, by)


FREE_SLOT = f"""
coalesce((select c.slot from memory_embedding_counters c where c.scope = d.scope order by c.slot limit 1
  for no key update skip locked), {_SLOTS} + pg_backend_pid() % 1000)"""
"""The slot that a delta `d` is added to: one that no other transaction has changed and not committed yet."""

_COUNT = f"""
insert into memory_embedding_counters as c (scope, slot, n)
select d.scope, {FREE_SLOT}, d.n from unnest($1::bigint[], $2::bigint[]) as d (scope, n) order by d.scope
on conflict (scope, slot) do update set n = c.n + excluded.n
"""


async def count(conn: Conn, deltas: Mapping[int, int]) -> None:
    """Add to counters (scope → change). Called last in a transaction; it waits for no other one."""
    changes = {scope: delta for scope, delta in deltas.items() if delta}
    if changes:
        await conn.execute(_COUNT, list(changes), list(changes.values()))


_COUNTED = """
select scope, sum(n)::bigint as n from memory_embedding_counters
where $1::bigint[] is null or scope = any($1)
group by scope
"""


async def counted(conn: Conn, scopes: Sequence[int] | None = None) -> dict[int, int]:
    """Some counters, or all, by scope; a scope that was never counted is absent."""
    rows = await conn.fetch(_COUNTED, scopes)
    return {row["scope"]: row["n"] for row in rows}


_ANNOUNCE = """select pg_notify($1, '')"""


async def announce(conn: Conn) -> None:
    """Tell the operator, once this transaction commits, that the spaces have changed."""
    await conn.execute(_ANNOUNCE, CHANNEL)
