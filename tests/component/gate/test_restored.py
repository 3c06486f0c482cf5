"""A database restored from a dump, beside whatever Providers there are: nothing is lost without consent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from fixtures.engine import Cluster, World, open_world
from fixtures.fills import provider, sent
from fixtures.postgres import Server, dump_and_restore
from fixtures.waiting import until
from vendor.stub import StubVendor

CHUNKS = 12
INSERT = "insert into memory_embedding_dim_change_consent (target_dim) values ($1)"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def restored(postgres_server: Server, plain_empty_database_url: str) -> str:
    """URL of an empty database, for a dump to be restored into."""
    postgres_server.execute("create extension vector", database=urlsplit(plain_empty_database_url).path[1:])
    return plain_empty_database_url


async def filled(world: World, vendor: StubVendor, **embedding: Any) -> Any:
    """A Provider whose space is full."""
    await world.stored(CHUNKS)
    ref = world.cluster.apply("memory", provider(vendor, **embedding))
    async with world.operator(), world.worker():
        await world.until_phase(ref, "Ready")
    vendor.forget()
    return ref


async def vectors(world: World) -> dict[str, int]:
    """Number of vectors by space."""
    rows = await world.fetch("select id, embedding_version from memory_embedding_spaces")
    return {
        row["embedding_version"]: await world.value(f"select count(*) from memory_vectors_{row['id']}") for row in rows
    }


async def test_beside_the_same_providers_nothing_is_embedded_again(
    world: World, database: str, restored: str, vendor: StubVendor, postgres_server: Server
) -> None:
    ref = await filled(world, vendor)
    before = await vectors(world)
    dump_and_restore(postgres_server, database, restored)
    world.cluster.statuses.clear()
    async with open_world(restored, world.cluster) as again, again.operator(), again.worker():
        await again.until_phase(ref, "Ready")
        assert await vectors(again) == before
    assert sent(vendor) == []


async def test_beside_a_provider_that_was_edited_and_consented_to_since_the_old_vectors_are_held_again(
    world: World, database: str, restored: str, vendor: StubVendor, postgres_server: Server
) -> None:
    ref = await filled(world, vendor)
    before = await vectors(world)
    dump_and_restore(postgres_server, database, restored)
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor, dimensions=32))
        await world.until_phase(ref, "Held")
        await world.fetch(INSERT, 32)
        await world.until_phase(ref, "Ready")
    world.cluster.statuses.clear()
    async with open_world(restored, world.cluster) as again, again.operator(), again.worker():
        await again.until_phase(ref, "Held")
        assert await vectors(again) == before
        assert again.cluster.statuses[ref].embedding.applied_dimensions == 64


async def test_in_a_new_cluster_providers_with_other_uids_get_their_spaces_back(
    world: World, database: str, restored: str, vendor: StubVendor, postgres_server: Server
) -> None:
    for batch in (8, 4, 2):  # generations that a new object does not have
        world.cluster.apply("memory", provider(vendor, batchSize=batch))
    await filled(world, vendor)
    before = await vectors(world)
    dump_and_restore(postgres_server, database, restored)
    elsewhere = Cluster()
    ref = elsewhere.apply("memory", provider(vendor))
    async with open_world(restored, elsewhere) as again, again.operator(), again.worker():
        await again.until_phase(ref, "Ready")
        assert await vectors(again) == before
        assert await again.value("select state from memory_embedding_spaces") == "ready"
    assert sent(vendor) == []


async def test_in_a_new_cluster_with_another_dimension_the_vectors_are_held(
    world: World, database: str, restored: str, vendor: StubVendor, postgres_server: Server
) -> None:
    await filled(world, vendor)
    before = await vectors(world)
    dump_and_restore(postgres_server, database, restored)
    elsewhere = Cluster()
    ref = elsewhere.apply("memory", provider(vendor, dimensions=32))
    async with open_world(restored, elsewhere) as again, again.operator(), again.worker():
        await again.until_phase(ref, "Held")
        assert await vectors(again) == before


async def test_in_a_cluster_without_providers_spaces_are_orphaned_and_keep_their_vectors(
    world: World, database: str, restored: str, vendor: StubVendor, postgres_server: Server
) -> None:
    await filled(world, vendor)
    before = await vectors(world)
    dump_and_restore(postgres_server, database, restored)
    async with open_world(restored, Cluster()) as again, again.operator(), again.worker():
        await until(
            lambda: again.value("select state = 'orphaned' from memory_embedding_spaces"),
            "the restored space is orphaned",
        )
        assert await vectors(again) == before
