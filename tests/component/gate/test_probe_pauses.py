"""When the embedder of a Provider is asked again after a failure, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.contract.provider import ProviderSpec
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.gate.probes import Probes, Unprobed
from memory_operator.errors import MemoryOperatorError
from memory_operator.plan.desired import call_config
from memory_operator.store.spaces.spaces import Owner
from vendor.script import Fault
from vendor.stub import StubVendor

REF = ProviderRef("default", "memory")
JITTER = 0.2


class Looks:
    """One Provider's looks at its embedder, each of them once the one before has its answer."""

    def __init__(self, world: World, vendor: StubVendor) -> None:
        self.now = 1000.0
        self.owner = Owner(REF, "uid", 1)
        self._answered = asyncio.Event()
        self._vendor = vendor
        self.probes = Probes(world.store, world.connector, lambda _: self._answered.set(), lambda: self.now)
        spec: dict[str, Any] = {
            "role": "embedding",
            "type": "openai_compatible",
            "model": "m",
            "baseURL": vendor.base_url,
            "credential": {"secretRef": {"name": "key"}},
            "embedding": {"dimensions": 64},
        }
        self.call = call_config("default", ProviderSpec.model_validate(spec))

    async def calls(self, marker_id: int | None = None) -> int:
        """Look at the embedder, and wait for its answer where it is asked; how often it was."""
        before = self._vendor.count
        self._answered.clear()
        try:
            await self.probes.dimensions(self.owner, self.call, 64, marker_id)
        except (Unprobed, MemoryOperatorError):
            await until(self._is_answered, "the embedder has answered")
        return self._vendor.count - before

    def _is_answered(self) -> bool:
        return self._answered.is_set() or self.probes.retry_after(REF) is not None

    def pause(self) -> float:
        """Seconds after which a reconcile is of use again."""
        pause = self.probes.retry_after(REF)
        assert pause is not None
        return pause


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
async def looks(world: World, vendor: StubVendor) -> AsyncIterator[Looks]:
    world.cluster.secrets[("default", "key")] = {"api-key": "first"}
    made = Looks(world, vendor)
    lanes = [asyncio.ensure_future(made.probes.work(consented=consented)) for consented in (False, True)]
    yield made
    for lane in lanes:
        lane.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)


async def failing(looks: Looks, times: int) -> list[float]:
    """Look as soon as each pause is over, so many times; the pauses."""
    pauses = []
    for _ in range(times):
        assert await looks.calls() == 1
        pauses.append(looks.pause())
        looks.now += pauses[-1] * 0.99
        assert await looks.calls() == 0, "it is asked before its pause is over"
        looks.now += pauses[-1] * 0.02
    return pauses


async def test_a_vendor_that_is_down_is_asked_after_five_seconds_and_then_ever_later_up_to_five_minutes(
    looks: Looks, vendor: StubVendor
) -> None:
    vendor.fault = Fault(status=503)
    pauses = await failing(looks, 9)
    nominal = [5, 10, 20, 40, 80, 160, 300, 300, 300]
    for pause, seconds in zip(pauses, nominal, strict=True):
        assert seconds * (1 - JITTER) <= pause <= seconds * (1 + JITTER)
    assert len({pause / seconds for pause, seconds in zip(pauses, nominal, strict=True)}) > 1, "they have no jitter"
    vendor.fault = None
    assert await looks.calls() == 1
    vendor.fault = Fault(status=503)
    looks.now += 301
    assert await looks.calls() == 1
    assert looks.pause() <= 5 * (1 + JITTER), "a success does not end the row of failures"


async def test_an_edit_a_consent_and_another_secret_each_ask_at_once_and_begin_with_short_pauses(
    looks: Looks, vendor: StubVendor, world: World
) -> None:
    vendor.fault = Fault(status=503)
    await failing(looks, 4)
    looks.owner = replace(looks.owner, generation=2)
    assert await looks.calls() == 1, "an edit is not looked at"
    assert looks.pause() <= 5 * (1 + JITTER)
    assert await looks.calls(marker_id=7) == 1, "a consent is not looked at"
    assert looks.pause() <= 5 * (1 + JITTER)
    assert await looks.calls(marker_id=7) == 0

    vendor.fault = Fault(status=401)
    looks.now += 7
    assert await looks.calls(marker_id=7) == 1
    assert await looks.calls(marker_id=7) == 0
    world.cluster.secrets[("default", "key")] = {"api-key": "second"}
    vendor.fault = None
    assert await looks.calls(marker_id=7) == 1, "another key is not looked at"
    assert await looks.probes.dimensions(looks.owner, looks.call, 64, 7) == 64


@pytest.mark.parametrize("status", [401, 404])
async def test_what_another_try_does_not_mend_is_asked_again_after_no_less_than_five_minutes(
    looks: Looks, vendor: StubVendor, status: int
) -> None:
    vendor.fault = Fault(status=status)
    assert await looks.calls() == 1
    asked_at = looks.now
    for seconds in (6, 60, 120, 240, 299):
        looks.now = asked_at + seconds
        assert await looks.calls() == 0
    looks.now = asked_at + 460
    assert await looks.calls() == 1
    assert looks.pause() <= 60 * (1 + JITTER), "its Secret is not looked at meanwhile"
