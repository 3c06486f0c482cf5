"""The role that the API has in the database: every row of ours, and no change of the schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from fixtures.api import Api
from fixtures.engine import World
from fixtures.postgres import API_ROLE, Server, api_url, dump_and_restore
from fixtures.waiting import until
from memory_operator.errors import ConfigurationError, StoreUnavailable
from memory_operator.store.db.migrate import check_migrated, migrate

REFUSED = [
    "create table memory_of_mine (n int)",
    "create table public.mine (n int)",
    "create view mine as select 1",
    "create function mine() returns int language sql as 'select 1'",
    "create schema mine",
    "create index on memory_chunks (ordinal)",
    "create trigger mine after insert on memory_chunks execute function memory_consent_recorded()",
    "drop table memory_chunks",
    "drop table memory_vectors_1",
    "drop view memory_embeddings",
    "drop index memory_vectors_1_project_chunk",
    "drop function memory_drop_vectors(bigint)",
    "alter table memory_chunks add column mine int",
    "alter table memory_vectors_1 rename to mine",
    "alter table memory_registry owner to memory_api",
    "create or replace view memory_pending_work as select 1::bigint as chunks",
    "truncate memory_chunks",
    "insert into memory_schema_migrations (version, name, checksum, requires_code) values (9999, 'mine', '', '0')",
    "set role memory",
]


@pytest.fixture
async def limited(world: World) -> AsyncIterator[asyncpg.Connection]:
    """A session of the API's role, on a store with one space."""
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", {"type": "mock"}), "Ready")
    conn = await asyncpg.connect(api_url(world.dsn))
    yield conn
    await conn.close()


async def test_it_may_change_nothing_of_the_schema(limited: asyncpg.Connection) -> None:
    assert [statement for statement in REFUSED if not await _refused(limited, statement)] == []
    with pytest.raises(asyncpg.RaiseError, match="space 1 is active"):
        await limited.execute("select memory_drop_vectors(1)")


async def _refused(conn: asyncpg.Connection, statement: str) -> bool:
    try:
        await conn.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


AS_OWNER = {
    "select memory_drop_vectors(1)": "memory_registry as select pg_temp.mine(0) as active_space_id",
    "select memory_show_active()": "memory_registry as select pg_temp.mine(1) as active_space_id",
    "insert into memory_embedding_dim_change_consent (target_dim) values (1)": (
        "memory_pending_changes as select pg_temp.mine(1) as to_dim, 'a' as namespace, 'b' as name, now() as since"
    ),
}
"""What calls a function that runs as the owner, and what that function reads, as its caller would have it."""


@pytest.mark.parametrize("call", AS_OWNER)
async def test_what_it_makes_for_its_session_is_not_taken_for_ours(limited: asyncpg.Connection, call: str) -> None:
    await limited.execute("""
        create function pg_temp.mine(answer bigint) returns bigint language plpgsql as $$ begin
          if current_user <> session_user then execute 'create table memory_of_mine ()'; end if;
          return answer;
        end $$
    """)
    await limited.execute(f"create temporary view {AS_OWNER[call]}")
    await limited.execute(f"grant select on {AS_OWNER[call].partition(' ')[0]} to public")
    with suppress(asyncpg.RaiseError):
        await limited.execute(call)
    await limited.execute("discard temp")
    assert await limited.fetchval("select to_regclass('memory_of_mine')") is None
    assert await limited.fetchval("select to_regclass('memory_vectors_1')") is not None


async def test_no_function_that_runs_as_its_owner_looks_into_the_session_first(limited: asyncpg.Connection) -> None:
    paths = await limited.fetch(
        "select proname, array_to_string(proconfig, ';') as settings from pg_proc where prosecdef"
        " and pronamespace = current_schema()::regnamespace"
    )
    assert len(paths) == 3
    assert [each["proname"] for each in paths if not str(each["settings"]).endswith(", pg_temp")] == []


async def test_it_reads_and_writes_the_table_of_a_space_that_was_made_later(limited: asyncpg.Connection) -> None:
    assert await limited.fetchval("select count(*) from memory_vectors_1") == 0
    assert await limited.fetchval("select chunks from memory_pending_work") == 0, "KEDA asks with it"
    await limited.execute("update memory_vectors_1 set project_id = 1")
    await limited.execute("delete from memory_vectors_1")


async def test_the_api_switches_and_prunes_with_it(world: World, api: Api) -> None:
    """The two things that it changes in the schema: the view of the active space, and the table of one that goes."""
    async with world.operator(), world.worker():
        first = world.cluster.apply("first", {"type": "mock", "model": "a"})
        await world.until_phase(first, "Ready")
        second = world.cluster.apply("second", {"type": "mock", "model": "b"})
        await world.until_phase(second, "Ready")
        added = await api.post("/memory/add", {"text": "The view follows the active space."})
        assert added.status_code == 201, added.text
        spaces = {each["provider"]: each["embedding_version"] for each in (await _spaces(api))}
        await until(lambda: _filled(api, "default/second"), "the second space has the memory too")
        activated = await api.post("/v1/embeddings/activate", {"embedding_version": spaces["default/second"]})
        assert activated.status_code == 200, activated.text
        assert await _seen(world) == await world.value("select array_agg(chunk_id) from memory_vectors_2")
        world.cluster.delete(first)
        await until(lambda: _state(api, "default/first", "orphaned"), "the first space is orphaned")
        pruned = await api.post("/v1/prune-embeddings", {})
        assert pruned.status_code == 200, pruned.text
        assert await world.value("select to_regclass('memory_vectors_1')") is None
        deactivated = await api.post("/v1/embeddings/deactivate")
        assert deactivated.status_code == 200, deactivated.text
        assert await _seen(world) is None


async def _spaces(api: Api) -> list[dict[str, Any]]:
    return list((await api.get("/v1/embeddings/spaces")).json()["spaces"])


async def _state(api: Api, provider: str, state: str) -> bool:
    return {each["provider"]: each["state"] for each in await _spaces(api)}.get(provider) == state


async def _filled(api: Api, provider: str) -> bool:
    return {each["provider"]: each["coverage"] for each in await _spaces(api)}[provider] == 1.0


async def _seen(world: World) -> list[int] | None:
    return list(found) if (found := await world.value("select array_agg(chunk_id) from memory_embeddings")) else None


async def test_it_waits_until_somebody_has_migrated_and_given_it_what_it_needs(
    plain_empty_database_url: str, postgres_server: Server, template_database: str
) -> None:
    url = plain_empty_database_url
    postgres_server.execute("create extension vector", database=url.rsplit("/", 1)[1])
    with pytest.raises(StoreUnavailable, match="is behind this release"):
        await check_migrated(api_url(url))
    await migrate(url)
    with pytest.raises(StoreUnavailable, match="may not read the store yet"):
        await check_migrated(api_url(url))
    await asyncio.gather(migrate(url, API_ROLE), migrate(url, API_ROLE))
    await check_migrated(api_url(url))


async def test_a_restored_store_gives_it_again_what_it_needs_and_nobody_else(
    postgres_server: Server, database: str, plain_empty_database_url: str
) -> None:
    name = plain_empty_database_url.rsplit("/", 1)[1]
    postgres_server.execute("create extension vector", database=name)
    dump_and_restore(postgres_server, database, plain_empty_database_url)
    with pytest.raises(StoreUnavailable, match="may not read the store yet"):
        await check_migrated(api_url(plain_empty_database_url))
    await migrate(plain_empty_database_url, API_ROLE)
    await check_migrated(api_url(plain_empty_database_url))
    for function in ("memory_show_active()", "memory_drop_vectors(bigint)"):
        may = "select has_function_privilege('{}', '{}', 'execute')"
        assert postgres_server.execute(may.format(API_ROLE, function), database=name) == "t"
        assert postgres_server.execute(may.format("public", function), database=name) == "f"


async def test_migrate_changes_no_permission_that_is_there(database: str) -> None:
    conn = await asyncpg.connect(database)
    given = "select oid, xmin, relacl from pg_class where relacl is not null order by oid"
    before = await conn.fetch(given)
    await migrate(database, API_ROLE)
    assert await conn.fetch(given) == before
    await conn.close()


@pytest.mark.parametrize(
    ("role", "error", "said"),
    [
        ("memory", ConfigurationError, "may do all that this database user may"),
        ("postgres", ConfigurationError, "may do all that this database user may"),
        ("no_such_role", StoreUnavailable, "no role no_such_role"),
    ],
)
async def test_a_role_that_owns_the_tables_or_is_not_there_is_refused(
    database: str, role: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        await migrate(database, role)
