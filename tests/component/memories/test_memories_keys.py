"""The master key's check, tenants' keys and projects, with several processes at once."""

from __future__ import annotations

import asyncio
import os

import pytest

from fixtures.engine import World
from memory_operator.errors import ConfigurationError, InvalidInput
from memory_operator.memory.encryption import MasterKey, Undecryptable
from memory_operator.store.db.pool import open_store
from memory_operator.store.memories.tenants import KeyRing, check_or_store_key


async def test_the_first_key_wins_and_every_other_is_refused_by_both_names(database: str) -> None:
    first, second = MasterKey(os.urandom(32)), MasterKey(os.urandom(32))
    async with await open_store(database, application="test") as store, store.connection() as conn:
        await check_or_store_key(conn, first)
        await check_or_store_key(conn, first)
        with pytest.raises(ConfigurationError) as caught:
            await check_or_store_key(conn, second)
        assert first.fingerprint in caught.value.message
        assert second.fingerprint in caught.value.message


async def test_of_processes_that_start_at_once_with_different_keys_one_goes_on(database: str) -> None:
    keys = [MasterKey(os.urandom(32)) for _ in range(6)]

    async def start(key: MasterKey) -> bool:
        async with await open_store(database, application="test", max_size=1) as store, store.connection() as conn:
            try:
                await check_or_store_key(conn, key)
            except ConfigurationError:
                return False
            return True

    assert sum(await asyncio.gather(*(start(key) for key in keys))) == 1


async def test_a_damaged_check_value_is_not_taken_for_the_right_key(world: World) -> None:
    async with world.store.connection() as conn:
        await conn.execute("update memory_store set key_check = 'x'")
        with pytest.raises(ConfigurationError, match="damaged"):
            await check_or_store_key(conn, MasterKey(bytes(range(32))))


async def test_processes_that_meet_a_tenant_at_once_share_one_key_and_one_project(world: World) -> None:
    rings = [KeyRing(MasterKey(bytes(range(32)))) for _ in range(6)]
    tenants = await asyncio.gather(*(ring.tenant(world.store, "agents") for ring in rings))
    assert {tenant.id for tenant in tenants} == {tenants[0].id}
    assert {tenant.key.content_hash("x") for tenant in tenants} == {tenants[0].key.content_hash("x")}
    projects = await asyncio.gather(
        *(ring.project(world.store, tenant, "p") for ring, tenant in zip(rings, tenants, strict=True))
    )
    assert len(set(projects)) == 1


async def test_projects_of_one_name_are_apart_between_tenants(world: World) -> None:
    one, other = await world.keys.tenant(world.store, "one"), await world.keys.tenant(world.store, "other")
    assert await world.keys.project(world.store, one, "p") != await world.keys.project(world.store, other, "p")
    assert await world.keys.known_project(world.store, one, "q") is None
    assert await world.keys.known_tenant(world.store, "nobody") is None


@pytest.mark.parametrize("name", ["", "a\x00b", "\ud800", "x" * 254, "two\nlines"])
async def test_names_that_cannot_be_names_are_refused_and_unknown(world: World, name: str) -> None:
    tenant = await world.keys.tenant(world.store, "default")
    with pytest.raises(InvalidInput):
        await world.keys.tenant(world.store, name)
    with pytest.raises(InvalidInput):
        await world.keys.project(world.store, tenant, name)
    assert await world.keys.known_tenant(world.store, name) is None
    assert await world.keys.known_project(world.store, tenant, name) is None


async def test_a_tenants_key_row_cannot_be_given_to_another_tenant(world: World) -> None:
    await world.keys.tenant(world.store, "victim")
    await world.fetch("update memory_tenants set name = 'thief'")
    with pytest.raises(Undecryptable):
        await KeyRing(MasterKey(bytes(range(32)))).tenant(world.store, "thief")
