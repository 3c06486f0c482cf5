"""The gate: what is held, what opens it, and that it opens once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.waiting import ends, until
from memory_operator.engine.gate.controller import Operator
from memory_operator.errors import NeedsConsent

INSERT = "insert into memory_embedding_dim_change_consent (target_dim) values ($1)"


def mock(dimensions: int, **embedding: Any) -> dict[str, Any]:
    return {"type": "mock", "embedding": {"dimensions": dimensions, **embedding}}


async def filled(world: World, name: str = "memory", chunks: int = 20, dimensions: int = 64) -> Any:
    """A Provider whose space is full."""
    await world.stored(chunks)
    ref = world.cluster.apply(name, mock(dimensions))
    await world.until_phase(ref, "Ready")
    return ref


async def dimension(world: World, ref: Any) -> int:
    return world.cluster.statuses[ref].embedding.applied_dimensions


async def test_a_dimension_edit_is_held_with_the_message_of_the_contract(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.operator() as operator, world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", mock(128))
        await world.until_phase(ref, "Held")
        expected = (
            "memory: changing the embedding dimension to 128 would discard existing embeddings and requires one-shot"
            " consent (from=64 vectors=20 marker=none); record it via POST /admin/embedding-dimension-change"
            ' {"target_dim":128} or INSERT INTO memory_embedding_dim_change_consent (target_dim) VALUES (128)'
        )
        condition = world.cluster.condition(ref, "DimensionSettled")
        assert (condition.status, condition.reason, condition.message) == ("False", "ConsentRequired", expected)
        assert operator.held_message() == expected
        assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [expected]
        events = [e for _, e in world.cluster.events if e.reason == "ConsentRequired"]
        assert [(e.type, e.message) for e in events] == [("Warning", expected)]
        assert await world.value("select count(*) from memory_vectors_1") == 20


async def test_one_marker_opens_the_gate_once_and_the_way_back_is_held_again(world: World) -> None:
    world.settings = replace(world.settings, consent_poll_seconds=3600.0)  # a notification opens it, and no poll
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", mock(128))
        await world.until_phase(ref, "Held")
        await world.fetch(INSERT, 128)
        await world.fetch(INSERT, 128)
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")
        await world.until_phase(ref, "Ready")
        states = await world.fetch(
            "select consumed_at is not null as used, withdrawn_at is not null as withdrawn"
            " from memory_embedding_dim_change_consent order by id"
        )
        assert sorted((row["used"], row["withdrawn"]) for row in states) == [(False, True), (True, False)]
        world.cluster.apply("memory", mock(64))
        await world.until_phase(ref, "Held")
        await world.fetch(INSERT, 64)
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", mock(128))
        await world.until_phase(ref, "Held")
        assert "marker=used" in world.cluster.condition(ref, "DimensionSettled").message


async def test_a_marker_for_another_dimension_does_not_open_the_gate_and_is_kept(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        await world.fetch(INSERT, 256)
        world.cluster.apply("memory", mock(128))
        await world.until_phase(ref, "Held")
        assert "marker=256" in world.cluster.condition(ref, "DimensionSettled").message
        valid = "consumed_at is null and withdrawn_at is null"
        assert await world.value(f"select count(*) from memory_embedding_dim_change_consent where {valid}") == 1


async def test_a_revert_settles_and_withdraws_the_marker_that_matched(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", mock(128))
        await world.until_phase(ref, "Held")
        world.cluster.apply("memory", mock(64))
        await world.until_phase(ref, "Ready")
        assert await world.value("select count(*) from memory_pending_changes") == 0
        assert await world.value("select count(*) from memory_vectors_1") == 20


async def test_a_bare_marker_is_ambiguous_while_two_providers_are_held_at_its_dimension(world: World) -> None:
    async with world.operator(), world.worker():
        first = await filled(world)
        second = world.cluster.apply("other", {"type": "mock", "model": "b", "embedding": {"dimensions": 64}})
        await world.until_phase(second, "Ready")
        world.cluster.apply("memory", mock(128))
        world.cluster.apply("other", {"type": "mock", "model": "b", "embedding": {"dimensions": 128}})
        await world.until_phase(first, "Held")
        await world.until_phase(second, "Held")
        await world.fetch(INSERT, 128)
        await until(
            lambda: "marker=ambiguous" in world.cluster.condition(first, "DimensionSettled").message,
            "the first Provider is told that the marker is ambiguous",
        )
        await until(
            lambda: "marker=ambiguous" in world.cluster.condition(second, "DimensionSettled").message,
            "the second Provider is told that the marker is ambiguous",
        )
        await world.fetch(
            "insert into memory_embedding_dim_change_consent (target_dim, provider) values (128, 'default/other')"
        )
        await until(
            lambda: world.cluster.statuses[second].embedding.applied_dimensions == 128,
            "dimension 128 is applied to the second Provider",
        )
        assert world.cluster.statuses[first].embedding.applied_dimensions == 64


async def test_a_marker_recorded_before_a_restart_is_applied_by_it(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
    world.cluster.apply("memory", mock(128))
    await world.fetch(INSERT, 128)
    async with world.operator(), world.worker():
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")
        await world.until_phase(ref, "Ready")


async def test_an_embedder_that_fails_after_consent_destroys_nothing_and_keeps_the_marker(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        openai = {"type": "openai", "model": "m", "credential": {"secretRef": {"name": "key"}}}
        world.cluster.apply("memory", {**openai, **mock(128), "type": "openai"})
        await world.until_phase(ref, "Held")
        await world.fetch(INSERT, 128)
        await until(
            lambda: world.cluster.condition(ref, "DimensionSettled").reason == "EmbedderUnreachable",
            "the change waits for its embedder",
        )
        assert world.cluster.condition(ref, "CredentialResolved").reason == "SecretMissing"
        assert await world.value("select count(*) from memory_vectors_1") == 20
        assert await world.value("select consumed_at from memory_embedding_dim_change_consent") is None


async def test_the_same_dimension_fills_beside_and_switches_when_full(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", {"type": "mock", "model": "b", "embedding": {"dimensions": 64}})
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "b-64-2",
            "the space of model b is the applied one",
        )
        await world.until_phase(ref, "Ready")
        states = await world.fetch("select state from memory_embedding_spaces order by id")
        assert [row["state"] for row in states] == ["retired", "ready"]
        assert await world.value("select active_space_id from memory_registry") == 2


async def test_shadow_changes_the_dimension_without_consent(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.apply("memory", mock(128, dimensionChange="Shadow"))
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")
        assert await world.value("select count(*) from memory_vectors_1") == 20


async def test_deletion_orphans_and_the_same_provider_attaches_again_without_embedding(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        world.cluster.delete(ref)
        await until(
            lambda: world.value("select inactive_reason = 'provider_deleted' from memory_registry"),
            "the queries are told that the Provider was deleted",
        )
        assert await world.value("select state from memory_embedding_spaces") == "orphaned"
        world.cluster.statuses.clear()
        world.cluster.apply("memory", mock(64))
        await world.until_phase(ref, "Ready")
        assert await world.value("select active_space_id from memory_registry") == 1
        assert await world.value("select coalesce(sum(done), 0) from memory_reembed_jobs where id > 1") == 0


async def test_two_operators_at_once_make_one_change(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
    world.cluster.apply("memory", mock(128))
    await world.fetch(INSERT, 128)
    async with world.operator(), world.operator(), world.worker():
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")
        await world.until_phase(ref, "Ready")
    assert await world.value("select count(*) from memory_activity where kind = 'reshape'") == 1
    assert await world.value("select count(*) from memory_embedding_spaces") == 1


async def test_a_younger_provider_with_the_same_space_is_a_duplicate(world: World) -> None:
    async with world.operator(), world.worker():
        await filled(world)
        ref = world.cluster.apply("twin", mock(64))
        await until(lambda: world.cluster.condition(ref, "Ready"), "the Provider has a Ready condition")
        assert world.cluster.condition(ref, "Ready").reason == "DuplicateSpace"


async def test_a_long_reader_delays_the_change_and_is_named(world: World) -> None:
    async with world.operator(), world.worker():
        ref = await filled(world)
        async with world.store.dedicated("a-long-report") as reader, reader.transaction():
            await reader.fetch("select count(*) from memory_vectors_1")
            world.cluster.apply("memory", mock(128))
            await world.until_phase(ref, "Held")
            await world.fetch(INSERT, 128)
            await until(
                lambda: world.cluster.condition(ref, "DimensionSettled").reason == "WaitingForLock",
                "the change waits for the lock",
            )
            assert "a-long-report" in world.cluster.condition(ref, "DimensionSettled").message
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")


async def test_an_unconsented_change_ends_the_operator_where_exit_is_asked_for(world: World) -> None:
    async with world.operator(), world.worker():
        await filled(world)
    world.cluster.apply("memory", mock(128))
    world.settings = replace(world.settings, on_unconsented_change="Exit")
    with pytest.raises(NeedsConsent, match="requires one-shot consent"):
        await end_of_operator(world)


async def end_of_operator(world: World) -> None:
    """Run an operator for as long as it runs by itself."""
    operator = Operator(world.store, world.cluster, world.connector, world.settings)
    await ends(operator.run(asyncio.Event()), "the operator ends")
