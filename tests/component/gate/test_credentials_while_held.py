"""An old vendor never gets a new vendor's key, also when both are in a Secret of one name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fixtures.engine import MASTER_KEY, World
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import EmbedderPool
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.ledger_rows import LedgerRows
from memory_operator.engine.embedding.metered import embed_at_once
from memory_operator.errors import CredentialChangedWhileHeld
from memory_operator.memory.encryption import MasterKey
from memory_operator.store.spaces import spaces
from vendor.stub import StubVendor

OLD, NEW = "sk-old-vendor", "sk-new-vendor"


@pytest.fixture
def old() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:  # takes any key: what is sent is lost
        yield stub


@pytest.fixture
def new() -> Iterator[StubVendor]:
    with StubVendor(dimensions=32, api_key=NEW) as stub:
        yield stub


def provider(vendor: StubVendor, dimensions: int) -> dict[str, Any]:
    return {
        "type": "openai",
        "model": "model-a",
        "baseURL": vendor.base_url,
        "credential": {"secretRef": {"name": "key"}},
        "embedding": {"dimensions": dimensions},
    }


@asynccontextmanager
async def another_process(world: World) -> AsyncIterator[Connector]:
    """A connector that has no Secret in its cache yet."""
    async with EmbedderPool({}) as pool:
        proof = MasterKey(MASTER_KEY).credential_proof
        yield Connector(pool, world.cluster.read_secret, world.settings.credentials, {}, proof)


async def ask(world: World, connector: Connector) -> None:
    async with world.store.connection() as conn:
        space = await spaces.active(conn)
    assert space is not None
    await embed_at_once(LedgerRows(world.store), connector, space, ["a query"], tenant_id=1, timeout=10)


async def serving(world: World, vendor: StubVendor) -> ProviderRef:
    world.cluster.secrets[("default", "key")] = {"api-key": OLD}
    await world.stored(12)
    ref = world.cluster.apply("memory", provider(vendor, 64))
    await world.until_phase(ref, "Ready")
    return ref


async def test_a_new_vendors_key_in_the_same_secret_is_not_sent_to_the_old_vendor(
    world: World, old: StubVendor, new: StubVendor
) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, old)

    world.cluster.secrets[("default", "key")] = {"api-key": NEW}
    world.cluster.apply("memory", provider(new, 32))
    async with another_process(world) as connector:
        world.connector = connector
        async with world.operator(), world.worker():
            await world.until_phase(ref, "Held")
            with pytest.raises(CredentialChangedWhileHeld, match="is not sent to the old one"):
                await ask(world, connector)
            await world.store_pending(await world.value("select active_space_id from memory_registry"))
            await until(
                lambda: (
                    getattr(world.cluster.condition(ref, "CredentialResolved"), "reason", None)
                    == "CredentialChangedWhileHeld"
                ),
                "the condition says why",
            )
            assert set(old.keys) == {OLD}

            world.cluster.apply("memory", provider(old, 64))  # the user takes the edit back: the key is this vendor's
            await world.until_phase(ref, "Ready")
            await ask(world, connector)
            assert set(old.keys) == {OLD, NEW}


async def test_the_key_that_worked_goes_on_being_used_while_a_change_is_held(
    world: World, old: StubVendor, new: StubVendor
) -> None:
    async with world.operator(), world.worker():
        ref = await serving(world, old)
        world.cluster.apply("memory", provider(new, 32))
        await world.until_phase(ref, "Held")
        async with another_process(world) as connector:
            await ask(world, connector)
    assert set(old.keys) == {OLD}
