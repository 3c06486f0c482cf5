"""What concerns queries only makes no space: edited alone nothing is embedded, and a store of 0.1 keeps what it has."""

from __future__ import annotations

from typing import Any

from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.activity import Actor
from memory_operator.store.spaces import spaces
from memory_operator.store.spaces.identities import settle_identities
from memory_operator.store.spaces.spaces import Owner

BY = Actor("tester", "test")


def mock(model: str = "m", **embedding: Any) -> dict[str, Any]:
    return {"type": "mock", "model": model, "embedding": {"dimensions": 64, **embedding}}


async def configs(world: World) -> list[tuple[str, str]]:
    rows = await world.fetch(
        "select config->>'model' as model, config->>'query_prefix' as prefix from memory_embedding_spaces order by id"
    )
    return [(row["model"], row["prefix"]) for row in rows]


async def test_a_query_prefix_edited_alone_is_used_and_embeds_nothing(world: World) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock())
        await world.until_phase(ref, "Ready")
        jobs = await world.value("select count(*) from memory_reembed_jobs")
        world.cluster.apply("memory", mock(queryPrefix="q: "))
        await until(lambda: has_configs(world, [("m", "q: ")]), "the space has the new query prefix")
        assert await world.value("select count(*) from memory_reembed_jobs") == jobs
        assert await world.value("select active_space_id from memory_registry") == 1


async def has_configs(world: World, wanted: list[tuple[str, str]]) -> bool:
    return await configs(world) == wanted


async def test_a_query_prefix_edited_with_a_model_belongs_to_the_new_space_alone(world: World) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock(queryPrefix="old: ", activation="Manual"))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", mock("n", queryPrefix="new: ", activation="Manual"))
        await until(
            lambda: has_configs(world, [("m", "old: "), ("n", "new: ")]), "each space has the prefix it was made with"
        )


async def made_by_0_1(world: World) -> None:
    """Let the store look as release 0.1 left it: identities of its own, and none of this release."""
    async with world.store.transaction() as conn:
        for row in await conn.fetch("select id, config from memory_embedding_spaces"):
            await conn.execute(
                "update memory_embedding_spaces set space_identity = null, identity = $2 where id = $1",
                row["id"],
                SpaceConfig.model_validate(row["config"]).identity_of_0_1,
            )


async def made_twin_of_first(world: World, space: int, prefix: str) -> None:
    """Let a space differ from the first in nothing but the query prefix, as only release 0.1 could make it."""
    await world.fetch(
        "update memory_embedding_spaces s set identity = 'x' || id, space_identity = null,"
        " config = (select config from memory_embedding_spaces where id = 1)"
        "   || jsonb_build_object('query_prefix', $2::text) where id = $1",
        space,
        prefix,
    )


async def two_spaces_of_0_1(world: World) -> tuple[ProviderRef, ProviderRef]:
    """A store of release 0.1 whose two full spaces have one identity now, and the Providers that own them."""
    await world.stored(10)
    async with world.operator(), world.worker():
        one = world.cluster.apply("one", mock())
        await world.until_phase(one, "Ready")
        two = world.cluster.apply("two", mock(documentPrefix="made apart by this: "))
        await world.until_phase(two, "Ready")
    await made_twin_of_first(world, 2, "q: ")
    await made_by_0_1(world)
    world.cluster.apply("two", mock(queryPrefix="q: "))
    return one, two


async def test_an_upgrade_embeds_takes_and_retires_nothing_where_two_spaces_have_one_identity_now(
    world: World,
) -> None:
    one, two = await two_spaces_of_0_1(world)
    jobs = await world.value("select count(*) from memory_reembed_jobs")
    async with world.operator(), world.worker():
        await until(lambda: world.cluster.statuses[two].observed_generation == 2, "the second Provider is looked at")
        await world.until_phase(one, "Ready")
        await world.until_phase(two, "Ready")
        world.cluster.apply("two", mock(queryPrefix="r: "))
        await until(lambda: has_configs(world, [("m", ""), ("m", "r: ")]), "edits still reach the second space")
        await world.until_phase(two, "Ready")
    assert await world.value("select count(*) from memory_reembed_jobs") == jobs
    rows = await world.fetch(
        "select provider_name, state, identity = any($1) as old, space_identity"
        " from memory_embedding_spaces order by id",
        [SpaceConfig.model_validate(each).identity_of_0_1 for each in await stored_configs(world, ("", "q: "))],
    )
    first = rows[0]["space_identity"]
    assert [tuple(row) for row in rows] == [
        ("one", "ready", True, first),
        ("two", "ready", True, f"{first}#old-2"),
    ]
    for space in (1, 2):
        assert await world.value(f"select count(*) from memory_vectors_{space}") == 10


async def stored_configs(world: World, prefixes: tuple[str, ...]) -> list[dict[str, Any]]:
    config = await world.value("select config from memory_embedding_spaces where id = 1")
    return [{**config, "query_prefix": prefix} for prefix in prefixes]


async def test_the_live_providers_space_keeps_the_identity_then_the_active_one_then_the_fuller_one(
    world: World,
) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock())
        await world.until_phase(ref, "Ready")
    async with world.store.transaction() as conn:
        config = SpaceConfig.model_validate(await conn.fetchval("select config from memory_embedding_spaces"))
        gone = Owner(ref._replace(name="gone"), "uid", 1)
        for name in ("one", "two", "three", "four", "five"):
            await spaces.create(conn, gone, config.model_copy(update={"document_prefix": name}))
        # Spaces 2 and 3 are as the first, which a live Provider has; of 4 and 5 the fuller, of 6 and the active …
        for number, (space, model) in enumerate([(2, "m"), (3, "m"), (4, "n"), (5, "n")]):
            changes = {"model": model, "query_prefix": str(number), "document_prefix": ""}
            await conn.execute(
                "update memory_embedding_spaces set config = $2 where id = $1",
                space,
                config.model_copy(update=changes).model_dump(mode="json"),
            )
        await conn.execute("insert into memory_embedding_counters (scope, slot, n) values (2, 0, 99), (5, 0, 3)")
        await conn.execute("update memory_registry set active_space_id = 3")
        await conn.execute("update memory_embedding_spaces set space_identity = null")
    await settle_identities(world.store)
    found = {
        row["id"]: row["space_identity"].partition("#old-")[2]
        for row in await world.fetch("select id, space_identity from memory_embedding_spaces")
    }
    assert found == {1: "", 2: "2", 3: "3", 4: "4", 5: "", 6: ""}
    await world.fetch("update memory_providers set applied_space_id = null")
    await world.fetch("update memory_embedding_spaces set space_identity = null")
    await settle_identities(world.store)
    kept = await world.fetch("select id from memory_embedding_spaces where space_identity !~ '#old-' order by id")
    assert [row["id"] for row in kept] == [3, 5, 6]


async def test_a_space_that_gave_its_identity_away_lets_the_other_be_pruned_once_its_provider_is_gone(
    world: World,
) -> None:
    one, two = await two_spaces_of_0_1(world)
    world.cluster.delete(one)
    assert await Catalog(world.store).prune({"default"}, BY) == [], "what no operator has looked at is not pruned"
    async with world.operator(), world.worker():
        await until(
            lambda: world.value("select state = 'orphaned' from memory_embedding_spaces where id = 1"),
            "the first space is orphaned",
        )
        await world.until_phase(two, "Ready")
    assert [each.embedding_version for each in await Catalog(world.store).prune({"default"}, BY)] == ["m-64-1"]
    assert await world.value("select count(*) from memory_vectors_2") == 10
