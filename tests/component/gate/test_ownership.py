"""Whose a space is: the live Provider's that has it, whatever the ages, until it leaves it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.store.db.activity import Actor

BY = Actor("tester", "test")


def mock(model: str, dimensions: int = 64, **embedding: Any) -> dict[str, Any]:
    return {"type": "mock", "model": model, "embedding": {"dimensions": dimensions, **embedding}}


async def two(world: World) -> tuple[ProviderRef, ProviderRef]:
    """An older Provider with space 1 and a younger one with space 2, which is active; both full."""
    await world.stored(10)
    older = world.cluster.apply("older", mock("a"))
    await world.until_phase(older, "Ready")
    younger = world.cluster.apply("younger", mock("b"))
    await world.until_phase(younger, "Ready")
    await Catalog(world.store).activate(None, "default/younger", BY)
    return older, younger


async def is_duplicate(world: World, ref: ProviderRef) -> str:
    """Wait until a Provider is told that the space it asks for is another's; the message."""

    def message() -> str | None:
        found = world.cluster.condition(ref, "Ready")
        return found.message if found and found.reason == "DuplicateSpace" else None

    return str(await until(message, f"{ref} is told that another has its space"))


async def states(world: World) -> list[tuple[int, str, str]]:
    rows = await world.fetch("select id, provider_name, state from memory_embedding_spaces order by id")
    return [tuple(row) for row in rows]


async def vectors(world: World, space: int) -> int:
    return int(await world.value(f"select count(*) from memory_vectors_{space}"))


async def test_an_older_provider_edited_to_the_space_of_a_younger_one_gets_nothing_of_it(world: World) -> None:
    async with world.operator(), world.worker():
        older, younger = await two(world)
        world.cluster.apply("older", mock("b"))
        assert str(younger) in await is_duplicate(world, older)
        assert await states(world) == [(1, "older", "ready"), (2, "younger", "ready")]
        world.cluster.apply("older", mock("a"))
        await world.until_phase(older, "Ready")
        assert await Catalog(world.store).prune({"default"}, BY) == []
        assert await states(world) == [(1, "older", "ready"), (2, "younger", "ready")]
        assert await world.value("select active_space_id from memory_registry") == 2
        assert await vectors(world, 2) == 10


async def test_a_consent_of_an_older_provider_never_discards_the_space_of_a_younger_one(world: World) -> None:
    async with world.operator(), world.worker():
        older, _ = await two(world)
        world.cluster.apply("older", mock("b"))
        await is_duplicate(world, older)
        world.cluster.apply("older", mock("b", 32))
        await world.until_phase(older, "Held")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
        await until(lambda: world.cluster.statuses[older].embedding.applied_dimensions == 32, "dimension 32 is applied")
        assert await vectors(world, 2) == 10
        assert [row[:2] for row in await states(world)] == [(2, "younger"), (3, "older")]


async def test_a_restart_and_another_uid_do_not_change_whose_a_space_is(world: World) -> None:
    async with world.operator(), world.worker():
        older, younger = await two(world)
    world.cluster.delete(younger)
    world.cluster.apply("younger", mock("b"))
    world.cluster.apply("older", mock("b"))
    async with world.operator(), world.worker():
        await is_duplicate(world, older)
        await world.until_phase(younger, "Ready")
        assert await states(world) == [(1, "older", "ready"), (2, "younger", "ready")]


async def test_a_duplicate_gets_the_space_as_soon_as_its_owner_leaves_it_and_it_is_not_prunable_meanwhile(
    world: World,
) -> None:
    async with world.operator(), world.worker():
        older, _ = await two(world)
        world.cluster.apply("older", mock("b"))
        await is_duplicate(world, older)
        world.cluster.apply("younger", mock("c"))
        await until(
            lambda: world.cluster.statuses[older].embedding.embedding_version == "b-64-2",
            "the older Provider has the space that the younger one left",
        )
        await world.until_phase(older, "Ready")
        assert await vectors(world, 2) == 10
    assert await world.value("select sum(done) from memory_reembed_jobs where space_id = 2 and id > 2") in (None, 0)


async def test_a_duplicate_gets_a_space_of_its_own_as_soon_as_the_owner_has_discarded_the_one_it_asks_for(
    world: World,
) -> None:
    world.settings = replace(world.settings, listing_seconds=3_600.0)
    async with world.operator(), world.worker():
        older, younger = await two(world)
        world.cluster.apply("older", mock("b"))
        await is_duplicate(world, older)
        world.cluster.apply("younger", mock("b", 32))
        await world.until_phase(younger, "Held")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
        await until(
            lambda: (world.cluster.statuses[older].embedding.embedding_version or "").startswith("b-64-"),
            "the older Provider has a space of what it asks for",
        )
        await world.until_phase(older, "Ready")
        assert world.cluster.statuses[younger].embedding.applied_dimensions == 32


async def test_a_deleted_owners_space_goes_to_the_live_provider_that_asks_for_it(world: World) -> None:
    async with world.operator(), world.worker():
        older, younger = await two(world)
        world.cluster.apply("older", mock("b"))
        await is_duplicate(world, older)
        world.cluster.delete(younger)
        await until(
            lambda: world.cluster.statuses[older].embedding.embedding_version == "b-64-2",
            "the older Provider has the space of the deleted one",
        )
        assert await vectors(world, 2) == 10


async def test_of_several_that_ask_for_a_space_without_an_owner_the_oldest_gets_it_then_the_first_by_name(
    world: World,
) -> None:
    await world.stored(10)
    long_ago = datetime(2024, 1, 1, tzinfo=UTC)
    ages = {"c-younger": long_ago + timedelta(days=1), "b-younger": long_ago + timedelta(days=1), "z-oldest": long_ago}
    async with world.operator(), world.worker():
        owner = world.cluster.apply("owner", mock("wanted"))
        await world.until_phase(owner, "Ready")
        for name, made in ages.items():
            await world.until_phase(world.cluster.apply(name, mock(name), made=made), "Ready")
        for name in ages:
            await is_duplicate(world, world.cluster.apply(name, mock("wanted")))
        for name in ("z-oldest", "b-younger", "c-younger"):
            world.cluster.delete(owner)
            owner = ProviderRef("default", name)
            await until(
                lambda owner=owner: world.cluster.statuses[owner].embedding.embedding_version == "wanted-64-1",
                f"{owner} has the space that is without an owner",
            )
            assert await world.value("select provider_name from memory_embedding_spaces where id = 1") == name
        assert await vectors(world, 1) == 10


async def test_a_space_that_a_live_provider_asks_for_is_not_pruned(world: World) -> None:
    async with world.operator(), world.worker():
        _, younger = await two(world)
        world.cluster.apply("younger", mock("c"))
        await until(
            lambda: world.cluster.statuses[younger].embedding.embedding_version == "c-64-3", "space 3 is switched to"
        )
    await world.fetch(
        "update memory_providers set wanted_identity ="
        " (select space_identity from memory_embedding_spaces where id = 2) where name = 'older'"
    )
    assert await Catalog(world.store).prune({"default"}, BY) == []
    assert await vectors(world, 2) == 10


async def test_two_that_swap_their_spaces_stay_as_they_are_and_are_told_the_way_out(world: World) -> None:
    async with world.operator(), world.worker():
        older, younger = await two(world)
        world.cluster.apply("older", mock("b"))
        world.cluster.apply("younger", mock("a"))
        for ref, other in ((older, younger), (younger, older)):
            await until(
                lambda ref=ref, other=other: (
                    f"{other} waits in turn" in (world.cluster.condition(ref, "Ready") or ref).message
                ),
                f"{ref} is told of the swap",
            )
        assert await states(world) == [(1, "older", "ready"), (2, "younger", "ready")]
        world.cluster.apply("older", mock("c"))
        await until(
            lambda: world.cluster.statuses[younger].embedding.embedding_version == "a-64-1", "the younger has space 1"
        )
        world.cluster.apply("older", mock("b"))
        await until(
            lambda: world.cluster.statuses[older].embedding.embedding_version == "b-64-2", "the older has space 2"
        )


async def test_back_to_a_dimension_whose_space_is_still_there_is_a_switch_without_consent(world: World) -> None:
    async with world.operator(), world.worker():
        await world.stored(12)
        ref = world.cluster.apply("memory", mock("a"))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", mock("a", 32, dimensionChange="Shadow"))
        await until(
            lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 32, "dimension 32 is switched to"
        )
        await world.until_phase(ref, "Ready")
        await world.stored(3)
        world.cluster.apply("memory", mock("a", dimensionChange="InPlace"))
        await until(
            lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 64, "dimension 64 is switched back to"
        )
        await world.until_phase(ref, "Ready")
    assert await vectors(world, 1) == 15
    assert await vectors(world, 2) >= 12
    assert await world.value("select count(*) from memory_activity where kind in ('reshape', 'release')") == 0
    assert await world.value("select done from memory_reembed_jobs where space_id = 1 order by id desc limit 1") == 3
