"""How the database server is: its version, its extension, its indexes, dead rows and room, each in one statement."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from memory_operator.errors import NotPermitted, StoreUnavailable
from memory_operator.store.db.migrate import shipped
from memory_operator.store.db.pool import Conn, fetch_one, translate_errors

_LIMIT = """select set_config('statement_timeout', $1, false), set_config('lock_timeout', $1, false)"""


@asynccontextmanager
async def limited(conn: Conn, seconds: float) -> AsyncIterator[None]:
    """Let each statement take so long at most. Raises StoreUnavailable where one does not end, and NotPermitted."""
    async with translate_errors():
        try:
            await conn.execute(_LIMIT, f"{int(seconds * 1000)}ms")
            yield
        except asyncpg.QueryCanceledError as error:
            raise StoreUnavailable(f"the database gave no answer within {seconds:g} s") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise NotPermitted("this database user may not do it") from error


@dataclass(frozen=True, slots=True)
class ServerState:
    """A database server as it answers."""

    version: str
    number: int
    """Such as 160004."""
    now: float
    """Its clock, in seconds since 1970."""
    read_only: bool
    """It is a standby, or was told to refuse writes."""


_SERVER = """
select current_setting('server_version') as version, current_setting('server_version_num')::int as number,
  extract(epoch from clock_timestamp())::float8 as now,
  pg_is_in_recovery() or current_setting('default_transaction_read_only') = 'on' as read_only
"""


async def server(conn: Conn) -> ServerState:
    """What the server says of itself."""
    return ServerState(**dict(await fetch_one(conn, _SERVER)))


_EXTENSION = """
select e.extversion as installed, coalesce(a.default_version, '') as available
from pg_extension e left join pg_available_extensions a on a.name = e.extname where e.extname = 'vector'
"""

_COMPARES_VECTORS = """select '[1,2]'::vector <-> '[1,3]'::vector"""


async def extension(conn: Conn) -> tuple[str, str] | None:
    """The version of pgvector in this database, and the one that the server's files have; None where there is none."""
    row = await conn.fetchrow(_EXTENSION)
    return None if row is None else (row["installed"], row["available"])


async def compares_vectors(conn: Conn) -> str | None:
    """Why the extension's library cannot be used; None where it can."""
    try:
        await conn.fetchval(_COMPARES_VECTORS)
    except (asyncpg.UndefinedFileError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedObjectError) as error:
        return type(error).__name__
    return None


@dataclass(frozen=True, slots=True)
class TableState:
    """A table of ours, as the server's statistics have it."""

    name: str
    live: int
    dead: int
    vacuumed: datetime | None
    age: int
    """Transactions since it was last frozen; the server stops at two billions."""


_TABLES = r"""
select c.relname as name, s.n_live_tup as live, s.n_dead_tup as dead,
  greatest(s.last_autovacuum, s.last_vacuum) as vacuumed, age(c.relfrozenxid) as age
from pg_stat_user_tables s join pg_class c on c.oid = s.relid
where c.relnamespace = current_schema()::regnamespace and c.relname like 'memory\_%' order by s.n_dead_tup desc
"""


async def tables(conn: Conn) -> list[TableState]:
    """Our tables, those with most dead rows first."""
    return [TableState(**dict(row)) for row in await conn.fetch(_TABLES)]


_INVALID_INDEXES = r"""
select i.indexrelid::regclass::text as name from pg_index i join pg_class t on t.oid = i.indrelid
where not i.indisvalid and t.relnamespace = current_schema()::regnamespace and t.relname like 'memory\_%'
and not exists (select from pg_locks l where l.relation = t.oid and l.mode = 'ShareUpdateExclusiveLock' and l.granted
  and l.database = (select d.oid from pg_database d where d.datname = current_database()))
order by 1
"""


async def invalid_indexes(conn: Conn) -> list[str]:
    """Indexes that a build left behind incomplete; none of a table on which a build is under way."""
    return [row["name"] for row in await conn.fetch(_INVALID_INDEXES)]


_PRESENT = """
select relname as name from pg_class where relkind in ('i', 'I') and relnamespace = current_schema()::regnamespace
"""


async def missing_indexes(conn: Conn) -> list[str]:
    """Indexes that the migrations make and that are not there."""
    present = {row["name"] for row in await conn.fetch(_PRESENT)}
    return [name for name in expected_indexes([each.sql for each in shipped()]) if name not in present]


_INDEX_STATEMENT = re.compile(
    r"create\s+(?:unique\s+)?index\s+(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?(\w+)\s+on"
    r"|drop\s+index\s+(?:concurrently\s+)?(?:if\s+exists\s+)?(\w+)",
    re.IGNORECASE,
)


def expected_indexes(migrations: Sequence[str]) -> list[str]:
    """The indexes that are there once these have run, in their order."""
    found: dict[str, None] = {}
    for text in migrations:
        for made, dropped in _INDEX_STATEMENT.findall(re.sub(r"--.*", "", text)):
            if made:
                found[made] = None
            else:
                found.pop(dropped, None)
    return list(found)


_DROP = """drop index concurrently if exists {index}"""


async def drop_invalid_index(conn: Conn, name: str) -> bool:
    """Drop an index that is still invalid, and that nobody builds; False where there is none of that name."""
    if name not in await invalid_indexes(conn):
        return False
    await conn.execute(_DROP.format(index=name))  # as the server quotes it
    return True


@dataclass(frozen=True, slots=True)
class Room:
    """What the server says of its disk, in bytes. How much is free it does not say."""

    database: int
    ours: int
    kept_log: int
    """Of the write-ahead log, kept for a replica that does not come."""
    damaged: int
    """Pages whose checksum was wrong."""


_ROOM = r"""
select pg_database_size(current_database()) as database,
  (select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c where c.relkind = 'r'
    and c.relnamespace = current_schema()::regnamespace and c.relname like 'memory\_%') as ours,
  case when pg_is_in_recovery() then 0 else (select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(),
    s.restart_lsn)), 0)::bigint from pg_replication_slots s where not s.active) end as kept_log,
  coalesce((select d.checksum_failures from pg_stat_database d where d.datname = current_database()), 0) as damaged
"""


async def room(conn: Conn) -> Room:
    """What there is on the server's disk."""
    return Room(**dict(await fetch_one(conn, _ROOM)))
