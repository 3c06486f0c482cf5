"""The annotation memory-operator/activate: another value activates once, and what became of it is told."""

from __future__ import annotations

from typing import Any

from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.contract.status import EmbeddingStatus
from memory_operator.engine.admin.annotation import AnnotatedActivations
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.errors import SourceUnavailable
from memory_operator.store.db.activity import Actor


class Guard:
    """What the API server's policy is to the operator."""

    def __init__(self, fault: str | None = None) -> None:
        self.fault = fault
        self.away = 0

    async def __call__(self) -> str | None:
        if self.away:
            self.away -= 1
            raise SourceUnavailable("the API server is away")
        return self.fault


def mock(model: str, dimensions: int = 8) -> dict[str, Any]:
    return {"type": "mock", "model": model, "embedding": {"dimensions": dimensions}}


def requests(world: World, guard: Guard) -> AnnotatedActivations:
    return AnnotatedActivations(world.store, Catalog(world.store), guard)


async def active(world: World) -> str | None:
    version: str | None = await world.value(
        "select s.embedding_version from memory_registry r join memory_embedding_spaces s on s.id = r.active_space_id"
    )
    return version


def told(world: World, ref: ProviderRef) -> EmbeddingStatus:
    embedding = world.cluster.statuses[ref].embedding
    assert embedding is not None
    return embedding


async def two(world: World) -> tuple[ProviderRef, ProviderRef]:
    """Two Providers that are ready, the first of them active."""
    first = world.cluster.apply("first", mock("a"))
    await world.until_phase(first, "Ready")
    second = world.cluster.apply("second", mock("b"))
    await world.until_phase(second, "Ready")
    assert await active(world) == "a-8-1"
    return first, second


async def test_another_value_activates_once_and_says_so(world: World) -> None:
    await world.stored(3)
    async with world.operator(requests=requests(world, Guard())), world.worker():
        first, second = await two(world)
        world.cluster.annotate(second, activate="now", activate_by="alice")
        await until(lambda: told(world, second).activate_result == "Done", "the status says that it is done")
        assert await active(world) == "b-8-2"
        assert told(world, second).activate == "now"
        assert told(world, second).activate_message == "queries read b-8-2 (asked for by alice)"
        events = [event for ref, event in world.cluster.events if ref == second and event.reason == "Activated"]
        assert [event.message for event in events] == [
            "memory-operator/activate=now: queries read b-8-2 (asked for by alice)"
        ]
        who = await world.fetch("select actor, origin from memory_activity where kind = 'activate'")
        assert ("alice", "annotation memory-operator/activate") in [tuple(row) for row in who]
        # The value stays, and what somebody else activates since then stays too.
        await Catalog(world.store).activate(None, str(first), Actor("bob", "here"))
        world.cluster.annotate(second, activate="now")
        world.cluster.apply("second", {**mock("b"), "embedding": {"dimensions": 8, "queryPrefix": "q: "}})
        status = world.cluster.statuses
        await until(lambda: status[second].observed_generation == 2, "the second Provider was looked at again")
        assert await active(world) == "a-8-1"
        world.cluster.annotate(second, activate="once more")
        await until(lambda: told(world, second).activate == "once more", "the next value is acted on")
        assert await active(world) == "b-8-2"


async def test_a_provider_that_has_the_annotation_from_the_first_on_has_changed_nothing(world: World) -> None:
    await world.stored(3)
    async with world.operator(requests=requests(world, Guard())), world.worker():
        _, second = await two(world)
    async with world.store.connection() as conn:
        await conn.execute("update memory_providers set activation_request = null")
    world.cluster.annotate(second, activate="old")
    async with world.operator(requests=requests(world, Guard())):
        seen = "select activation_request->>'value' = 'old' from memory_providers where name = 'second'"
        await until(lambda: world.value(seen), "the annotation is seen")
        assert await active(world) == "a-8-1"
        assert told(world, second).activate_result is None


async def test_without_a_policy_it_is_refused_and_says_why(world: World) -> None:
    await world.stored(3)
    guard = Guard("there is no ValidatingAdmissionPolicy x")
    async with world.operator(requests=requests(world, guard)), world.worker():
        _, second = await two(world)
        world.cluster.annotate(second, activate="now")
        await until(lambda: told(world, second).activate_result == "Refused", "the status says that it is refused")
        assert "nobody asks who may activate: there is no ValidatingAdmissionPolicy x" in str(
            told(world, second).activate_message
        )
        assert await active(world) == "a-8-1"
        [event] = [event for _, event in world.cluster.events if event.reason == "ActivationRefused"]
        assert event.type == "Warning"
        # The policy comes: what was refused is asked for anew by another value only.
        guard.fault = None
        world.cluster.annotate(second, activate="again")
        await until(lambda: told(world, second).activate_result == "Done", "the next value is acted on")
        assert await active(world) == "b-8-2"


async def test_a_space_that_lacks_vectors_is_refused_with_the_figures(world: World) -> None:
    await world.stored(3)
    async with world.operator(requests=requests(world, Guard())):
        async with world.worker():
            first = world.cluster.apply("first", mock("a"))
            await world.until_phase(first, "Ready")
        second = world.cluster.apply("second", mock("b"))
        await world.until_phase(second, "Reembedding")
        world.cluster.annotate(second, activate="now")
        await until(lambda: told(world, second).activate_result == "Refused", "it is refused")
        assert "only 0 of 3 chunks have a vector in b-8-2" in str(told(world, second).activate_message)
        assert await active(world) == "a-8-1"


async def test_what_was_only_begun_is_done_once_the_api_server_answers(world: World) -> None:
    await world.stored(3)
    guard = Guard()
    async with world.operator(requests=requests(world, guard)), world.worker():
        _, second = await two(world)
        guard.away = 2
        world.cluster.annotate(second, activate="now")
        await until(lambda: told(world, second).activate_result == "Done", "it is tried again, and done")
        assert await active(world) == "b-8-2"
