"""What docs/backup.md says: a dump, restored elsewhere by a user with no more rights than ours, is the same store."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from fixtures.engine import MASTER_KEY, World
from fixtures.memories import Memories, config
from fixtures.postgres import Server, dump_and_restore
from memory_operator.engine.memories.recall import Recall
from memory_operator.errors import ConfigurationError
from memory_operator.memory.encryption import MasterKey
from memory_operator.store.db.migrate import check_schema, migrate
from memory_operator.store.db.pool import open_store
from memory_operator.store.memories.tenants import KeyRing, check_or_store_key


async def test_a_dump_restored_elsewhere_is_the_same_store_for_who_has_the_key(
    world: World,
    memories: Memories,
    database: str,
    postgres_server: Server,
    plain_empty_database_url: str,
) -> None:
    await memories.space(config())
    stored = await memories.add("The gate opens once per consent.")
    async with world.store.connection() as conn:
        await conn.execute("insert into memory_embedding_dim_change_consent (target_dim) values (768)")
    name = urlsplit(plain_empty_database_url).path.removeprefix("/")
    postgres_server.execute("create extension vector", database=name)  # the administrator's line
    dump_and_restore(postgres_server, database, plain_empty_database_url)

    assert await migrate(plain_empty_database_url) == []
    async with await open_store(plain_empty_database_url, application="test") as store:
        async with store.connection() as conn:
            await check_schema(conn)
            with pytest.raises(ConfigurationError):
                await check_or_store_key(conn, MasterKey(b"another" + bytes(25)))
        recall = Recall(store, world.connector, KeyRing(MasterKey(MASTER_KEY)))
        answer = await recall.query("default", "default", "gate", 10)
    assert [each.id for each in answer.results] == [stored.id]
    assert answer.results[0].text == "The gate opens once per consent."
    assert answer.diagnostics.semantic_status == "ok"
