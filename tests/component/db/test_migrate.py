"""Migrations: numbered, forward only, run once however many processes start at once."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from fixtures.waiting import until
from memory_operator.errors import ConfigurationError, StoreUnavailable
from memory_operator.store.db.migrate import Migration, check_schema, migrate, run, shipped

LEDGER_ROW = (
    "insert into memory_usage_ledger (call_id, purpose, provider_namespace, provider_name, model, inputs,"
    " estimated_tokens)"
    " values (gen_random_uuid(), 'add', 'a', 'b', 'm', 1, 1)"
)


async def test_an_empty_database_gets_everything_and_a_second_run_does_nothing(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == [f"{m.version:04d}_{m.name}" for m in shipped()]
    assert await migrate(empty_database_url) == []


async def test_four_migrators_at_once_run_each_migration_once(empty_database_url: str) -> None:
    ran = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(len(names) for names in ran) == [0, 0, 0, len(shipped())]


async def test_a_user_who_may_not_create_the_extension_is_given_the_line_for_the_administrator(
    plain_empty_database_url: str,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await migrate(plain_empty_database_url)
    assert "CREATE EXTENSION vector;" in refused.value.hint


async def test_a_schema_that_requires_newer_code_is_refused(database: str) -> None:
    conn = await asyncpg.connect(database)
    try:
        await conn.execute(
            "insert into memory_schema_migrations (version, name, checksum, requires_code)"
            " values (9999, 'from_the_future', 'x', '99.0.0')"
        )
        with pytest.raises(ConfigurationError, match=r"requires memory-operator 99\.0\.0 or later"):
            await check_schema(conn)
    finally:
        await conn.close()
    with pytest.raises(ConfigurationError, match=r"99\.0\.0"):
        await migrate(database)


async def test_a_migration_that_was_changed_after_it_ran_is_noticed(database: str) -> None:
    conn = await asyncpg.connect(database)
    try:
        await conn.execute("update memory_schema_migrations set checksum = 'other' where version = 1")
    finally:
        await conn.close()
    with pytest.raises(ConfigurationError, match="was changed after it ran"):
        await migrate(database)


async def test_the_consent_table_is_exactly_as_the_contract_gives_it(database: str) -> None:
    conn = await asyncpg.connect(database)
    try:
        rows = await conn.fetch(
            "select column_name, data_type, is_nullable, column_default is not null or is_identity = 'YES' as filled"
            " from information_schema.columns where table_name = 'memory_embedding_dim_change_consent'"
            " order by ordinal_position"
        )
        for dimension in (0, 4001):
            with pytest.raises(asyncpg.CheckViolationError):
                await conn.execute(
                    "insert into memory_embedding_dim_change_consent (target_dim) values ($1)", dimension
                )
        await conn.execute("insert into memory_embedding_dim_change_consent (target_dim) values (768)")
        who = await conn.fetchrow(
            "select created_by = session_user as mine, expires_at - created_at = interval '24 hours' as day"
            " from memory_embedding_dim_change_consent"
        )
    finally:
        await conn.close()
    assert [tuple(row) for row in rows] == [
        ("id", "bigint", "NO", True),
        ("target_dim", "integer", "NO", False),
        ("provider", "text", "YES", False),
        ("created_at", "timestamp with time zone", "NO", True),
        ("created_by", "text", "NO", True),
        ("expires_at", "timestamp with time zone", "NO", True),
        ("consumed_at", "timestamp with time zone", "YES", False),
        ("consumed_by", "text", "YES", False),
        ("withdrawn_at", "timestamp with time zone", "YES", False),
    ]
    assert (who["mine"], who["day"]) == (True, True)


BUILDING = """
select coalesce(max(pid), 0) from pg_stat_activity
where query like 'create index concurrently%' and pid <> pg_backend_pid()
"""


async def test_an_index_is_built_while_others_write_and_again_after_its_builder_was_killed(database: str) -> None:
    """A build waits for who was there before; those who come later do not wait for the build."""
    early, late = await asyncpg.connect(database), await asyncpg.connect(database)
    try:
        await late.execute("delete from memory_schema_migrations where version = 3")
        await late.execute("drop index memory_usage_ledger_at")
        await late.execute("set lock_timeout = '1s'")
        open_one = early.transaction()
        await open_one.start()
        await early.execute(LEDGER_ROW)
        migrating = asyncio.create_task(migrate(database))

        async def is_building() -> bool:
            # The statement is seen before it has made the index, which it does before it waits for others.
            begun = await late.fetchval("select to_regclass('memory_usage_ledger_at') is not null")
            return bool(begun and await late.fetchval(BUILDING))

        await until(is_building, "the index is being built")
        for _ in range(20):
            await late.execute(LEDGER_ROW)
        assert not migrating.done()
        await late.execute("select pg_terminate_backend($1)", await late.fetchval(BUILDING))
        with pytest.raises(StoreUnavailable):
            await migrating
        valid = "select indisvalid from pg_index where indexrelid = to_regclass('memory_usage_ledger_at')"
        assert await late.fetchval(valid) is False
        await open_one.commit()
        assert await migrate(database) == ["0003_indexes"]
        assert await late.fetchval(valid) is True
    finally:
        await early.close()
        await late.close()


async def test_a_migration_in_a_transaction_gives_way_instead_of_queueing_writers_behind_a_reader(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    reader, writer = await asyncpg.connect(empty_database_url), await asyncpg.connect(empty_database_url)
    migrator = await asyncpg.connect(empty_database_url)
    table = Migration(9998, "locks", "lock table memory_activity in access exclusive mode", "0.1.0")
    try:
        await writer.execute("set lock_timeout = '1s'")
        open_one = reader.transaction()
        await open_one.start()
        await reader.fetchval("select count(*) from memory_activity")
        migrating = asyncio.create_task(run(migrator, table))
        for _ in range(10):
            await writer.execute(
                "insert into memory_activity (actor, origin, kind, subject) values ('a', 'b', 'c', 'd')"
            )
            await asyncio.sleep(0.1)
        assert not migrating.done()
        await open_one.commit()
        await migrating
    finally:
        await reader.close()
        await writer.close()
        await migrator.close()
