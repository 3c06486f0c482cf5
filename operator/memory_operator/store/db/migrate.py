"""Migrations: numbered, forward only; one migrator at a time, which never stops those who write for long.

Each is one transaction that gives up, and is tried again, where it has to wait for a lock; or, with the line
`-- transaction: none`, statements that run one by one and may each be run again: indexes that are built concurrently.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata, resources

import asyncpg

from memory_operator.errors import ConfigurationError, LockBusy, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store.db import api_role
from memory_operator.store.db.address import DatabaseAddress
from memory_operator.store.db.pool import ACQUIRE_SECONDS, END_IDLE_TRANSACTIONS, Conn, translate_errors, vector_schema

log = get_logger(__name__)

_LOCK_KEY = 7_034_210_551
_LOCK_WAIT_SECONDS = 60.0
_TABLE_WAIT_MS = 300
"""All who come later wait behind who waits for a table."""
_RETRY_SECONDS = (0.2, 1.0)
_OLDEST_PGVECTOR = (0, 7)
_BUG_FREE_PGVECTOR = (0, 8, 4)
OLDEST_POSTGRES = 15


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str
    requires_code: str

    @property
    def checksum(self) -> str:
        """Digest of the file, so that a migration edited after it ran is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements of a migration that is no transaction; none of one that is."""
        if not re.search(r"^-- transaction: none$", self.sql, re.MULTILINE):
            return []
        bare = re.sub(r"^--.*$", "", self.sql, flags=re.MULTILINE)
        return [statement.strip() for statement in re.split(r";$", bare, flags=re.MULTILINE) if statement.strip()]


def code_version() -> str:
    """The version of the installed distribution."""
    return metadata.version("memory-operator")


def shipped() -> list[Migration]:
    """All migrations of this release, in order."""
    found = []
    for entry in sorted(resources.files(__package__).joinpath("migrations").iterdir(), key=lambda e: e.name):
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name)
        if match:
            sql = entry.read_text()
            requires = re.search(r"^-- requires-code: (\S+)$", sql, re.MULTILINE)
            if requires is None:
                raise ConfigurationError(f"migration {entry.name} does not say which code it requires")
            found.append(Migration(int(match[1]), match[2], sql, requires[1]))
    return found


async def migrate(database: str | DatabaseAddress, role: str = "") -> list[str]:
    """Bring the database to this release's schema, and give the API's role what it may do; the migrations that ran.

    Raises StoreUnavailable, ConfigurationError (too old a server, missing permission, too new a schema).
    """
    async with _connected(database) as conn:
        await conn.execute(END_IDLE_TRANSACTIONS)  # one that is stopped would keep writers waiting
        await _poll_lock(conn)
        await _check_server(conn)
        await _ensure_extension(conn)
        ran = await _run_all(conn)
        if role:
            await _giving_way(conn, lambda: api_role.grant(conn, role))
        return ran


async def check_migrated(database: str | DatabaseAddress) -> None:
    """What a process waits for whose user may not migrate. Raises StoreUnavailable until another one has migrated."""
    async with _connected(database) as conn:
        try:
            done = await _recorded(conn)
        except asyncpg.InsufficientPrivilegeError as error:
            raise StoreUnavailable(
                "this database user may not read the store yet",
                hint="run migrate as the owner of the tables, with --api-role",
            ) from error
        if missing := _missing(done):
            raise StoreUnavailable(f"the database schema is behind this release ({missing} migrations to run)")
        _refuse_older_code(done)


@asynccontextmanager
async def _connected(database: str | DatabaseAddress) -> AsyncIterator[Conn]:
    address = DatabaseAddress(database) if isinstance(database, str) else database
    address.check()
    async with translate_errors():
        conn = await address.connect(timeout=ACQUIRE_SECONDS, server_settings={"application_name": "memory-migrate"})
        try:
            yield conn
        finally:
            await conn.close(timeout=5)


async def check_schema(conn: Conn) -> None:
    """Refuse to run on a schema that is behind this code, or that requires newer code."""
    done = await _recorded(conn)
    if missing := _missing(done):
        raise ConfigurationError(
            f"the database schema is behind this release ({missing} migrations to run)",
            hint="run: memory-operator migrate --database-url …",
        )
    _refuse_older_code(done)


@dataclass(frozen=True, slots=True)
class SchemaState:
    """How the schema of a database stands to this release's."""

    newest: int
    """Number of the last migration that ran; 0 where none did."""
    missing: list[str]
    changed: list[str]
    """Migrations that were others when they ran here."""
    requires: str
    """The release that the schema requires."""
    is_newer: bool
    """Whether that is a later one than this."""


async def schema_state(conn: Conn) -> SchemaState:
    """Look at which migrations ran; nothing is refused."""
    done = await _recorded(conn)
    requires = max((requires for _, requires in done.values()), key=_as_tuple, default="0")
    return SchemaState(
        max(done, default=0),
        [f"{each.version:04d}_{each.name}" for each in shipped() if each.version not in done],
        [
            f"{each.version:04d}_{each.name}"
            for each in shipped()
            if each.version in done and done[each.version][0] != each.checksum
        ],
        requires,
        _as_tuple(requires) > _as_tuple(code_version()),
    )


def pgvector_faults(version: str) -> str | None:
    """What is known against a version of pgvector; None where nothing is."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version))
    if numbers < _OLDEST_PGVECTOR:
        return "it is too old: 0.7 or later is needed"
    if numbers < _BUG_FREE_PGVECTOR:
        return "its HNSW indexes have known bugs; 0.8.4 or later has them mended"
    return None


def _missing(done: Mapping[int, tuple[str, str]]) -> int:
    return sum(migration.version not in done for migration in shipped())


_TRY_LOCK = """select pg_try_advisory_lock($1)"""


async def _poll_lock(conn: Conn) -> None:
    """Polled, because a session that waits inside PostgreSQL holds a snapshot and stalls concurrent index builds."""
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT_SECONDS
    while not await conn.fetchval(_TRY_LOCK, _LOCK_KEY):
        if asyncio.get_running_loop().time() > deadline:
            raise LockBusy("another process is migrating this database", hint="wait for it to end")
        await asyncio.sleep(0.1)


_SERVER_VERSION = """show server_version_num"""


async def _check_server(conn: Conn) -> None:
    major = int(await conn.fetchval(_SERVER_VERSION)) // 10_000
    if major < OLDEST_POSTGRES:
        raise ConfigurationError(f"PostgreSQL {major} is too old: {OLDEST_POSTGRES} or later is needed")


_CREATE_EXTENSION = """create extension if not exists vector"""

_EXTENSION_VERSION = """select extversion from pg_extension where extname = 'vector'"""


async def _ensure_extension(conn: Conn) -> None:
    if await vector_schema(conn) is None:
        try:
            await conn.execute(_CREATE_EXTENSION)
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(
                "this database user may not create the vector extension",
                hint="an administrator runs once in this database: CREATE EXTENSION vector;",
            ) from error
        except (asyncpg.UndefinedFileError, asyncpg.FeatureNotSupportedError) as error:
            raise ConfigurationError(
                "this PostgreSQL server has no pgvector", hint="install the pgvector package on the server"
            ) from error
    text = str(await conn.fetchval(_EXTENSION_VERSION))
    version = tuple(int(part) for part in re.findall(r"\d+", text))
    if version < _OLDEST_PGVECTOR:
        raise ConfigurationError(
            f"pgvector {text} is too old: 0.7 or later is needed",
            hint="install a newer pgvector, then run in this database: ALTER EXTENSION vector UPDATE;",
        )
    if version < _BUG_FREE_PGVECTOR:
        log.warning("pgvector %s has known HNSW bugs; 0.8.4 or later is better", text)


_IS_MIGRATED = """select to_regclass('memory_schema_migrations') is not null"""

_RECORDED = """select version, checksum, requires_code from memory_schema_migrations"""


async def _recorded(conn: Conn) -> dict[int, tuple[str, str]]:
    if not await conn.fetchval(_IS_MIGRATED):
        return {}
    rows = await conn.fetch(_RECORDED)
    return {row["version"]: (row["checksum"], row["requires_code"]) for row in rows}


def _refuse_older_code(done: dict[int, tuple[str, str]]) -> None:
    ours = _as_tuple(code_version())
    newest = max((requires for _, requires in done.values()), key=_as_tuple, default="0")
    if _as_tuple(newest) > ours:
        raise ConfigurationError(
            f"this database's schema requires memory-operator {newest} or later, this is {code_version()}",
            hint="run the newer release, or restore the database from before its migration",
        )


def _as_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


_CREATE_RECORD = """
create table if not exists memory_schema_migrations (
version int primary key, name text not null, checksum text not null,
requires_code text not null, applied_at timestamptz not null default now())
"""

_SET_LOCK_TIMEOUT = """select set_config('lock_timeout', $1, true)"""

_RECORD = """
insert into memory_schema_migrations (version, name, checksum, requires_code) values ($1, $2, $3, $4)
"""


async def _run_all(conn: Conn) -> list[str]:
    await conn.execute(_CREATE_RECORD)
    done = await _recorded(conn)
    _refuse_older_code(done)
    ran = []
    for migration in shipped():
        if migration.version in done:
            if done[migration.version][0] != migration.checksum:
                raise ConfigurationError(
                    f"migration {migration.version:04d}_{migration.name} was changed after it ran here",
                    hint="install the release that this database was made with",
                )
            continue
        await run(conn, migration)
        ran.append(f"{migration.version:04d}_{migration.name}")
    return ran


async def run(conn: Conn, migration: Migration) -> None:
    """Run one migration and write down that it ran."""
    if migration.statements:
        await _run_beside_traffic(conn, migration)
    else:
        await _run_in_transaction(conn, migration)


async def _run_in_transaction(conn: Conn, migration: Migration) -> None:
    async def run_and_record() -> None:
        await conn.execute(migration.sql)
        await _record(conn, migration)

    await _giving_way(conn, run_and_record)


async def _giving_way(conn: Conn, work: Callable[[], Awaitable[None]]) -> None:
    """One transaction that gives up, and is tried again, where it has to wait for a lock."""
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT_SECONDS
    while True:
        try:
            async with conn.transaction():
                await conn.execute(_SET_LOCK_TIMEOUT, f"{_TABLE_WAIT_MS}ms")
                await work()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(random.uniform(*_RETRY_SECONDS))
        else:
            return


_IS_INVALID = """select not indisvalid from pg_index where indexrelid = to_regclass($1)"""

_DROP_INVALID = """drop index concurrently if exists {index}"""


async def _run_beside_traffic(conn: Conn, migration: Migration) -> None:
    for statement in migration.statements:
        build = re.match(r"create index concurrently if not exists (\w+)", statement)
        if build and await conn.fetchval(_IS_INVALID, build[1]):
            await conn.execute(_DROP_INVALID.format(index=build[1]))
        await conn.execute(statement)
    await _record(conn, migration)


async def _record(conn: Conn, migration: Migration) -> None:
    await conn.execute(_RECORD, migration.version, migration.name, migration.checksum, migration.requires_code)
