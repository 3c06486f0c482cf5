"""Checks of the database server: what it is, what it lacks, and what fills it up."""

from __future__ import annotations

import time
from collections.abc import Iterator

from memory_operator.engine.admin.doctor.report import Finding, Repair, Result
from memory_operator.errors import ConfigurationError
from memory_operator.store.db import health, migrate
from memory_operator.store.db.pool import Conn
from memory_operator.store.memories.tenants import KeyRing

DRIFT_WARN_SECONDS = 2.0
DRIFT_FAIL_SECONDS = 60.0
_DEAD_ROWS = 10_000
_DEAD_SHARE = 0.2
_OLD_TRANSACTIONS = 1_000_000_000
_TOO_OLD_TRANSACTIONS = 1_800_000_000
_KEPT_LOG = 4 * 1024**3
_MIB = 1024**2


async def database(conn: Conn) -> list[Finding]:
    """Its version, whether it takes writes, and how far its clock is from this process's."""
    before = time.time()
    state = await health.server(conn)
    middle = (before + time.time()) / 2
    found = [drift("the database", state.now - middle)]
    if state.number // 10_000 < migrate.OLDEST_POSTGRES:
        message = f"PostgreSQL {state.version} is too old: {migrate.OLDEST_POSTGRES} or later is needed"
        found.append(Finding("database", "fail", message, remedy="upgrade the database server"))
    elif state.read_only:
        message = f"PostgreSQL {state.version} refuses writes: it is a standby, or read-only"
        found.append(Finding("database", "fail", message, remedy="let the database URL lead to the primary server"))
    else:
        found.append(Finding("database", "ok", f"PostgreSQL {state.version} answers"))
    return found


def drift(whose: str, seconds: float) -> Finding:
    """How far a clock is ahead of this process's."""
    message = f"the clock of {whose} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this process's"
    if abs(seconds) < DRIFT_WARN_SECONDS:
        return Finding("clocks", "ok", message)
    result: Result = "warn" if abs(seconds) < DRIFT_FAIL_SECONDS else "fail"
    return Finding("clocks", result, message, remedy="let NTP set the clocks of the machines")


async def pgvector(conn: Conn) -> list[Finding]:
    """Whether the extension is there, works, and is free of known bugs."""
    found = await health.extension(conn)
    if found is None:
        remedy = 'as an administrator: psql -c "CREATE EXTENSION vector"'
        return [Finding("pgvector", "fail", "the database has no vector extension", remedy=remedy)]
    installed, available = found
    update = 'as an administrator: psql -c "ALTER EXTENSION vector UPDATE"'
    if broken := await health.compares_vectors(conn):
        message = f"pgvector {installed} does not work on this server ({broken})"
        return [Finding("pgvector", "fail", message, remedy=f"install the pgvector package; then {update}")]
    if fault := migrate.pgvector_faults(installed):
        newer = available and not migrate.pgvector_faults(available)
        remedy = update if newer else f"install a newer pgvector on the server; then {update}"
        result: Result = "fail" if "too old" in fault else "warn"
        return [Finding("pgvector", result, f"pgvector {installed}: {fault}", remedy=remedy)]
    if available and available != installed:
        message = f"pgvector {installed} is in use, and the server has {available}"
        return [Finding("pgvector", "warn", message, remedy=update)]
    return [Finding("pgvector", "ok", f"pgvector {installed}")]


async def migrations(conn: Conn) -> list[Finding]:
    """Whether the schema is this release's."""
    state = await migrate.schema_state(conn)
    if state.is_newer:
        message = f"the schema requires memory-operator {state.requires} or later, this is {migrate.code_version()}"
        return [Finding("migrations", "fail", message, remedy="run the newer release")]
    if state.missing:
        message = f"{len(state.missing)} migrations are to run, the first is {state.missing[0]}"
        return [Finding("migrations", "fail", message, remedy="memory-operator migrate --database-url …")]
    if state.changed:
        message = f"migrations were others when they ran here: {', '.join(state.changed)}"
        remedy = "install the release that this database was made with"
        return [Finding("migrations", "fail", message, remedy=remedy)]
    return [Finding("migrations", "ok", f"the schema is this release's (migration {state.newest:04d})")]


async def master_key(conn: Conn, keys: KeyRing | None) -> list[Finding]:
    """Whether the master key opens the value that the store keeps to tell."""
    if keys is None:
        message = "no master key was given to this program"
        return [Finding("master-key", "skipped", message, remedy="give --master-key-file")]
    try:
        await keys.check(conn)
    except ConfigurationError as error:
        return [Finding("master-key", "fail", error.message, remedy=error.hint)]
    return [Finding("master-key", "ok", "the master key opens the store's check value")]


async def indexes(conn: Conn) -> list[Finding]:
    """Indexes that the schema lacks, and those that are there and of no use."""
    missing, invalid = await health.missing_indexes(conn), await health.invalid_indexes(conn)
    found = [_missing_index(name) for name in missing] + [_invalid_index(name) for name in invalid]
    return found or [Finding("indexes", "ok", "every index of the schema is there and valid")]


def _missing_index(name: str) -> Finding:
    remedy = f"as the owner of the tables: run its CREATE INDEX again, `grep -r {name} migrations/` shows it"
    return Finding("indexes", "fail", f"the index {name} of the schema is missing", name, remedy)


def _invalid_index(name: str) -> Finding:
    if "_hnsw_" in name:
        message = f"a build left the index {name} behind incomplete; queries do not use it"
        remedy = "memory-operator check --deep --fix, or let a worker run: it builds the index anew"
        return Finding("indexes", "warn", message, name, remedy, Repair("drop-index", name))
    remedy = f'as the owner of the tables: psql -c "REINDEX INDEX CONCURRENTLY {name}"'
    return Finding("indexes", "fail", f"the index {name} is invalid and not used", name, remedy)


async def bloat(conn: Conn) -> list[Finding]:
    """Tables with many dead rows, or that were not frozen for long."""
    return list(_bloat(await health.tables(conn))) or [Finding("bloat", "ok", "no table has many dead rows")]


def _bloat(tables: list[health.TableState]) -> Iterator[Finding]:
    for table in tables:
        vacuum = f'psql -c "VACUUM (ANALYZE) {table.name}"; and let autovacuum run'
        if table.age > _OLD_TRANSACTIONS:
            result: Result = "fail" if table.age > _TOO_OLD_TRANSACTIONS else "warn"
            message = f"{table.name} was not frozen for {table.age:,} transactions; at 2 billions the server stops"
            yield Finding("bloat", result, message, table.name, vacuum)
        elif table.dead > _DEAD_ROWS and table.dead > _DEAD_SHARE * table.live:
            since = f"vacuumed {table.vacuumed:%F %H:%M}" if table.vacuumed else "never vacuumed"
            message = f"{table.name} has {table.dead:,} dead rows beside {table.live:,} live ones ({since})"
            yield Finding("bloat", "warn", message, table.name, vacuum)


async def disk(conn: Conn) -> list[Finding]:
    """What the server can say of its disk."""
    room = await health.room(conn)
    found = []
    if room.damaged:
        message = f"the server found {room.damaged} pages with a wrong checksum: its disk loses data"
        found.append(Finding("disk", "fail", message, remedy="restore a backup on another disk: docs/backup.md"))
    if room.kept_log > _KEPT_LOG:
        message = f"a replica that does not come keeps {room.kept_log // _MIB:,} MiB of the write-ahead log"
        remedy = 'psql -c "select slot_name, active from pg_replication_slots"; then pg_drop_replication_slot(…)'
        found.append(Finding("disk", "warn", message, remedy=remedy))
    sizes = f"the database has {room.database / _MIB:,.1f} MiB, {room.ours / _MIB:,.1f} of them are ours"
    return found or [Finding("disk", "ok", f"{sizes}; how much is free PostgreSQL does not say")]
