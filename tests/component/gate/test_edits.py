"""What each edit of a Provider does to its space."""

from __future__ import annotations

from typing import Any

import asyncpg

from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.store.db.activity import Actor
from memory_operator.store.spaces import spaces

BY = Actor("tester", "test")


def mock(**embedding: Any) -> dict[str, Any]:
    return {"type": "mock", "embedding": {"dimensions": 64, **embedding}}


async def filled(world: World, chunks: int = 20, **embedding: Any) -> Any:
    await world.stored(chunks)
    ref = world.cluster.apply("memory", mock(**embedding))
    await world.until_phase(ref, "Ready")
    return ref


async def states(world: World) -> list[str]:
    return [row["state"] for row in await world.fetch("select state from memory_embedding_spaces order by id")]


async def index_of(world: World, space: int) -> list[str]:
    rows = await world.fetch(
        "select indexdef from pg_indexes where tablename = $1 and indexdef like '%hnsw%'", f"memory_vectors_{space}"
    )
    return [row["indexdef"] for row in rows]


async def test_another_distance_rebuilds_the_index_and_embeds_nothing(world: World) -> None:
    async with world.operator(), world.worker():
        await filled(world, chunks=1_100)
        assert "vector_cosine_ops" in (await index_of(world, 1))[0]
        world.cluster.apply("memory", mock(distance="l2"))
        await until(
            lambda: world.value("select distance = 'l2' from memory_embedding_spaces"), "the distance is the new one"
        )
        await until(lambda: only_l2(world), "there is an index of the new distance alone")
        assert await world.value("select count(*) from memory_reembed_jobs") == 1


async def only_l2(world: World) -> bool:
    try:
        found = await index_of(world, 1)
    except asyncpg.InternalServerError:  # the index was dropped while its definition was read
        return False
    return len(found) == 1 and "vector_l2_ops" in found[0]


async def test_a_prefix_makes_another_space_beside_the_old_one(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", mock(documentPrefix="search_document: "))
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "mock-64-2",
            "the second space is the applied one",
        )
        assert await states(world) == ["retired", "ready"]


async def test_another_column_type_makes_another_space_beside_the_old_one(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", mock(columnType="halfvec"))
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "mock-64-2",
            "the second space is the applied one",
        )
        column = await world.value(
            "select format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = 'memory_vectors_2'::regclass and attname = 'embedding'"
        )
        assert column == "halfvec(64)"


async def test_manual_activation_fills_beside_and_waits_for_activate(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world, activation="Manual")
        world.cluster.apply(
            "memory", {"type": "mock", "model": "b", "embedding": mock(activation="Manual")["embedding"]}
        )
        await until(
            lambda: world.value("select state = 'ready' from memory_embedding_spaces where id = 2"), "space 2 is ready"
        )
        assert await world.value("select active_space_id from memory_registry") == 1
        catalog = Catalog(world.store)
        await catalog.activate("b-64-2", None, BY)
        assert await world.value("select active_space_id from memory_registry") == 2
        assert await states(world) == ["retired", "ready"]
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "b-64-2",
            "the space of model b is the applied one",
        )


async def test_an_edit_that_is_taken_back_in_mid_fill_keeps_the_old_space(world: World) -> None:
    async with world.operator():
        async with world.worker():
            ref = await filled(world)
        world.cluster.apply("memory", {"type": "mock", "model": "b", "embedding": {"dimensions": 64}})
        await until(lambda: world.value("select count(*) = 2 from memory_embedding_spaces"), "a second space is made")
        world.cluster.apply("memory", mock())
        await until(
            lambda: world.value("select state = 'retired' from memory_embedding_spaces where id = 2"),
            "space 2 is retired",
        )
        await world.until_phase(ref, "Ready")
        assert await states(world) == ["ready", "retired"]


async def test_going_back_to_a_retired_space_embeds_only_what_it_missed(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", {"type": "mock", "model": "b", "embedding": {"dimensions": 64}})
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "b-64-2",
            "the space of model b is the applied one",
        )
        await world.until_phase(ref, "Ready")
        await world.stored(3)
        world.cluster.apply("memory", mock())
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "mock-64-1",
            "the first space is the applied one again",
        )
        await world.until_phase(ref, "Ready")
        assert await world.value("select done from memory_reembed_jobs where space_id = 1 order by id desc") == 3
        assert await world.value("select count(*) from memory_vectors_1") == 23


async def test_a_second_provider_fills_beside_the_first_and_is_never_active_by_itself(world: World) -> None:
    async with world.operator(), world.worker():
        first = await filled(world)
        second = world.cluster.apply("other", {"type": "mock", "model": "b", "embedding": {"dimensions": 32}})
        await world.until_phase(second, "Ready")
        assert await world.value("select active_space_id from memory_registry") == 1
        assert world.cluster.statuses[first].embedding.active
        assert not world.cluster.statuses[second].embedding.active
        await Catalog(world.store).activate(None, "default/other", BY)
        await until(lambda: world.cluster.statuses[second].embedding.active, "the second Provider's space is active")


async def test_of_several_first_providers_the_oldest_is_active(world: World) -> None:
    for name in ("b-younger", "a-oldest", "c-youngest"):
        world.cluster.apply(name, {"type": "mock", "model": name, "embedding": {"dimensions": 32}})
    async with world.operator(), world.worker():
        await until(lambda: len(world.cluster.statuses) == 3, "all three Providers have a status")
        owner = await world.value(
            "select s.provider_name from memory_embedding_spaces s join memory_registry r on r.active_space_id = s.id"
        )
        assert owner == "b-younger"


async def test_create_disabled_leaves_new_memories_to_a_fill(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", mock(createEnabled=False))
        await until(
            lambda: world.value("select not create_enabled from memory_embedding_spaces"),
            "createEnabled is off in the store",
        )
        async with world.store.connection() as conn:
            assert await spaces.accepting_writes(conn) == []
        assert world.phase(ref) == "Ready"
        await world.stored(4)
        world.cluster.apply("memory", mock(createEnabled=True))
        await until(lambda: world.value("select count(*) = 24 from memory_vectors_1"), "all 24 vectors are stored")


async def test_a_deleted_held_provider_withdraws_its_markers(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        openai = {"type": "openai", "model": "m", "credential": {"secretRef": {"name": "key"}}}
        world.cluster.apply("memory", {**openai, "embedding": {"dimensions": 128}})
        await world.until_phase(ref, "Held")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (128)")
        await until(
            lambda: world.cluster.condition(ref, "DimensionSettled").reason == "EmbedderUnreachable",
            "the change waits for its embedder",
        )
        world.cluster.delete(ref)
        await until(
            lambda: world.value("select withdrawn_at is not null from memory_embedding_dim_change_consent"),
            "the marker is withdrawn",
        )
        assert await world.value("select count(*) from memory_vectors_1") == 20


async def test_recreated_with_another_dimension_it_is_held(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.delete(ref)
        await until(
            lambda: world.value("select absent_since is not null from memory_providers"),
            "the Provider is seen to be gone",
        )
        world.cluster.statuses.clear()
        world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 128}})
        await world.until_phase(ref, "Held")
        assert await world.value("select count(*) from memory_vectors_1") == 20
        assert await world.value("select active_space_id from memory_registry") == 1
