"""activation: Measured. Queries switch to the space of an edit once it is full and its answers are good enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fixtures.api import Api, refused, serve
from fixtures.comparisons import texts
from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from vendor.script import Fault
from vendor.stub import StubVendor

MEMORIES = 80
ACTIVATE = "/v1/embeddings/activate"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=128) as stub:
        yield stub


def spec(vendor: StubVendor, model: str, **gate: Any) -> dict[str, Any]:
    embedding = {"dimensions": 128, "activation": "Measured", "gate": {"questions": 60, **gate}}
    server = {"type": "openai_compatible", "baseURL": vendor.base_url}
    if model.endswith("-ollama"):
        server = {"type": "ollama", "baseURL": vendor.root_url}
    return {**server, "model": model, "embedding": embedding}


class Store:
    """A world with memories in the space of one model."""

    def __init__(self, world: World, api: Api, vendor: StubVendor) -> None:
        self.world, self.api, self.vendor = world, api, vendor
        self.ref = ProviderRef("default", "memory")

    async def begin(self, model: str) -> None:
        """The first space is active at once: there is nothing to compare it with."""
        self.edit(model)
        await self.world.until_phase(self.ref, "Ready")
        for start in range(0, MEMORIES, 8):
            stored = [self.api.post("/memory/add", {"text": text}) for text in texts(MEMORIES)[start : start + 8]]
            assert {answer.status_code for answer in await asyncio.gather(*stored)} == {201}

    def edit(self, model: str, **gate: Any) -> None:
        self.world.cluster.apply("memory", spec(self.vendor, model, **gate))

    async def active(self) -> str:
        """The model of the active space."""
        found = (await self.api.get("/v1/embeddings/spaces")).json()["spaces"]
        return next(str(space["model"]) for space in found if space["active"])

    async def kinds(self) -> list[str]:
        """What happened, the oldest first, as far as it is about switches."""
        found = (await self.api.get("/activity")).json()["activities"]
        kinds = [str(each["kind"]) for each in reversed(found)]
        return [kind for kind in kinds if kind.startswith("gate") or kind == "switch"]

    async def until_refused(self) -> str:
        """Wait for the condition; its message."""

        def refusal() -> str | None:
            condition = self.world.cluster.condition(self.ref, "Active")
            return condition.message if condition and condition.reason == "GateNotPassed" else None

        return str(await until(refusal, "the gate is not passed"))


@pytest.fixture
async def store(world: World, vendor: StubVendor) -> AsyncIterator[Store]:
    async with world.operator(), serve(world) as api:
        yield Store(world, api, vendor)


async def test_a_worse_model_is_refused_with_its_figures_until_somebody_insists(store: Store) -> None:
    async with store.world.worker():
        await store.begin("words")
        store.edit("words-scrambled")
        message = await store.until_refused()
        assert "nDCG@10 is" in message
        assert "60 questions" in message
        assert await store.active() == "words"
        answer = (await store.api.post("/memory/query", {"query": texts(1)[0]})).json()
        assert answer["diagnostics"]["embedding_version"].startswith("words-128")
        beside = (await store.api.get("/v1/embeddings/spaces")).json()["spaces"][-1]["embedding_version"]
        problem = refused(await store.api.post(ACTIVATE, {"embedding_version": beside}), 409, "gate_not_passed")
        assert "nDCG@10 is" in problem["detail"]
        assert await store.kinds() == ["gate-not-passed"]
        [event] = [event for _, event in store.world.cluster.events if event.reason == "GateNotPassed"]
        assert event.type == "Warning"
        forced = await store.api.post(ACTIVATE, {"embedding_version": beside, "force": True})
        assert forced.status_code == 200, forced.text
        assert await store.active() == "words-scrambled"
        assert await store.kinds() == ["gate-not-passed", "gate-overridden", "switch"]


async def test_a_better_model_is_switched_to_by_itself(store: Store) -> None:
    async with store.world.worker():
        await store.begin("words-scrambled")
        store.edit("words")
        await until(lambda: _is_active(store, "words"), "the better model answers")
        assert await store.kinds() == ["gate-passed", "switch"]


async def _is_active(store: Store, model: str) -> bool:
    return await store.active() == model


async def test_a_wider_gate_is_measured_anew(store: Store) -> None:
    async with store.world.worker():
        await store.begin("words")
        store.edit("words-scrambled")
        await store.until_refused()
        store.edit("words-scrambled", maxNdcgLoss=1.0)
        await until(lambda: _is_active(store, "words-scrambled"), "the wider gate is passed")


async def test_a_measurement_that_dies_decides_nothing_and_is_made_anew(store: Store) -> None:
    async with store.world.worker():
        await store.begin("words")
        store.vendor.latency_ms = 200
        store.edit("words-scrambled")
        await until(lambda: _compares(store), "the measurement has begun")
    assert await store.kinds() == []
    assert await store.active() == "words"
    store.vendor.latency_ms = 0
    async with store.world.worker():
        await store.until_refused()
    assert await store.kinds() == ["gate-not-passed"]


async def test_an_old_model_that_is_gone_leaves_it_to_a_person(store: Store) -> None:
    async with store.world.worker():
        await store.begin("words-scrambled-ollama")
        store.vendor.fault = Fault(status=404, path="/api/embed")
        store.edit("words")
        message = await store.until_refused()
        assert "could not be compared so far" in message
        assert await store.active() == "words-scrambled-ollama"
        store.vendor.fault = None
        await until(lambda: _is_active(store, "words"), "the better model answers")


async def _compares(store: Store) -> bool:
    return bool(await store.world.value("select count(*) > 0 from memory_usage_ledger where purpose = 'compare'"))
