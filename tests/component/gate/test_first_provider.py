"""A first Provider on an empty store, and what it needs before anything is written."""

from __future__ import annotations

from fixtures.engine import World
from fixtures.waiting import until

MOCK = {"type": "mock", "embedding": {"dimensions": 64}}


async def test_the_first_provider_gets_a_column_and_is_active_at_once(world: World) -> None:
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", MOCK)
        await world.until_phase(ref, "Ready")
        status = world.cluster.statuses[ref]
        assert status.embedding is not None
        assert status.embedding.active
        assert status.embedding.applied_dimensions == 64
        column = await world.value(
            "select format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = 'memory_vectors_1'::regclass and attname = 'embedding'"
        )
        assert column == "vector(64)"


async def test_a_dimension_edit_of_an_empty_store_needs_no_consent(world: World) -> None:
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", MOCK)
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 32}})
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 32, "dimension 32 is applied")
        assert await world.value("select count(*) from memory_embedding_spaces") == 1
