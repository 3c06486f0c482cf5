"""Locks among our own processes: polled, never queued for, held by a session of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from memory_operator.contract.resource import ProviderRef
from memory_operator.errors import LockBusy
from memory_operator.store.db.pool import Conn, Store

_POLL_SECONDS = 0.05
_PING_SECONDS = 5.0
_GIVES_WAY_MS = 300
"""How long an autovacuum that was asked to give way may take for it."""

PROVIDERS = 7_034_211
_INDEXES = 7_034_213
_GATES = 7_034_215
WORKERS = 7_034_214
"""Class of the advisory lock that a worker holds for as long as it lives."""


@asynccontextmanager
async def provider_lock(store: Store, ref: ProviderRef, wait_seconds: float) -> AsyncIterator[None]:
    """Only one process at a time changes a Provider's spaces. Raises LockBusy after `wait_seconds`."""
    async with _session_lock(store, PROVIDERS, str(ref), wait_seconds):
        yield


@asynccontextmanager
async def index_lock(store: Store, space_id: int) -> AsyncIterator[None]:
    """Only one process at a time builds a space's index. Raises LockBusy at once."""
    async with _session_lock(store, _INDEXES, str(space_id), 0):
        yield


@asynccontextmanager
async def gate_lock(store: Store, space_id: int) -> AsyncIterator[None]:
    """Only one process at a time measures a space. Raises LockBusy at once."""
    async with _session_lock(store, _GATES, str(space_id), 0):
        yield


_TRY_LOCK = """select pg_try_advisory_lock($1, hashtext($2))"""


@asynccontextmanager
async def _session_lock(store: Store, kind: int, name: str, wait_seconds: float) -> AsyncIterator[None]:
    deadline = asyncio.get_running_loop().time() + wait_seconds
    async with store.dedicated("memory-lock") as conn:
        while not await conn.fetchval(_TRY_LOCK, kind, name):
            if asyncio.get_running_loop().time() >= deadline:
                raise LockBusy(f"another process is at work on {name}")
            await asyncio.sleep(_POLL_SECONDS)
        yield  # the lock ends with its session


_LOCK_PRESENCE = """select pg_advisory_lock($1, $2)"""


@asynccontextmanager
async def presence(store: Store, key: int) -> AsyncIterator[Conn]:
    """Show that a worker is alive, on the connection that is yielded: its ranges are free once that is gone."""
    async with store.dedicated("memory-presence") as conn:
        await conn.execute(_LOCK_PRESENCE, WORKERS, key)
        yield conn


_PING = """select 1"""


async def ping(conn: Conn) -> None:
    """Notice a connection that died in silence. Raises StoreUnavailable where the caller translates errors."""
    await conn.execute(_PING, timeout=_PING_SECONDS)


_BLOCKERS = """
select distinct a.pid, coalesce(nullif(a.application_name, ''), 'unnamed') as application,
coalesce(a.state, 'of another user') as state,
extract(epoch from now() - a.xact_start)::int as seconds
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.relation = to_regclass($1) and l.granted and l.pid <> pg_backend_pid()
order by seconds desc nulls last limit 5
"""


async def blockers(conn: Conn, table: str) -> tuple[str, ...]:
    """Who holds a lock on a table: process id, application, state and age of the transaction."""
    rows = await conn.fetch(_BLOCKERS, table)
    return tuple(f"pid {row['pid']} ({row['application']}, {row['state']} for {row['seconds'] or 0} s)" for row in rows)


_PATIENCE_MS = """
select (select setting::int from pg_settings where name = 'deadlock_timeout')
from pg_locks l left join pg_stat_activity a on a.pid = l.pid
where l.relation in (select to_regclass(name) from unnest($1::text[]) as name) and l.granted
and l.pid <> pg_backend_pid()
having bool_and(l.mode = 'ShareUpdateExclusiveLock' and a.usename is null)
"""


async def patience_ms(conn: Conn, tables: Sequence[str]) -> int | None:
    """How long to wait for tables that the autovacuum alone holds: it gives way to whoever has waited so long.

    None where anybody else holds one of them too, or nobody any more. An autovacuum has no user.
    """
    found = await conn.fetchval(_PATIENCE_MS, list(tables))
    return None if found is None else int(found) + _GIVES_WAY_MS


_END_OWN_WORK = """
select pg_cancel_backend(a.pid) from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.relation = to_regclass($1) and l.granted and l.pid <> pg_backend_pid()
and a.application_name in ('memory-worker', 'memory-index')
"""


async def end_own_work(conn: Conn, table: str) -> None:
    """Cancel our own fill and index build on a table that is about to be discarded."""
    await conn.fetch(_END_OWN_WORK, table)
