"""A served namespace that cannot be listed: it is said, nobody is absent from it, and the others are served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fixtures.engine import World
from fixtures.fills import provider
from fixtures.waiting import until
from memory_operator.errors import SourceUnavailable
from vendor.stub import StubVendor

LISTED_AT = "memory_providers_listed_timestamp_seconds"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def both(world: World) -> World:
    """A world whose operator serves two namespaces, and lists them each second."""
    world.settings = replace(world.settings, listing_seconds=0.2)
    world.cluster.served = {"default", "shut"}
    return world


def listed_at(world: World, namespace: str) -> float:
    found = world.store.metrics.registry.get_sample_value(LISTED_AT, {"served_namespace": namespace})
    return found or 0.0


async def test_others_are_served_from_the_start_and_their_absence_is_noticed(both: World, vendor: StubVendor) -> None:
    both.cluster.unlisted = {"shut"}
    ref = both.cluster.apply("memory", provider(vendor))
    async with both.operator() as operator, both.worker():
        await both.until_phase(ref, "Ready")
        assert operator.not_ready() == "memory: namespace shut: Providers cannot be listed: shut cannot be listed"
        both.cluster.delete(ref)
        gone = "select count(*) from memory_activity where kind = 'orphan'"
        await until(lambda: both.value(gone), "the absence is noticed")


async def test_nobody_is_absent_from_a_namespace_that_cannot_be_listed(both: World, vendor: StubVendor) -> None:
    ref = both.cluster.apply("memory", provider(vendor), "shut")
    async with both.operator() as operator, both.worker():
        await both.until_phase(ref, "Ready")
        both.cluster.unlisted = {"shut"}
        await until(operator.not_ready, "the failure is told")
        for _ in range(3):
            seen = listed_at(both, "default")
            await until(lambda seen=seen: listed_at(both, "default") > seen, "another listing")
        assert await both.value("select absent_since is null from memory_providers")
        assert both.cluster.statuses[ref].phase == "Ready"


async def test_the_age_of_each_namespaces_listing_is_told_and_ends_with_the_failure(
    both: World, caplog: pytest.LogCaptureFixture
) -> None:
    both.cluster.unlisted = {"shut"}
    async with both.operator() as operator:
        await until(lambda: listed_at(both, "default") > listed_at(both, "shut") > 0, "one grows older than the other")
        await until(lambda: "first listing" not in (operator.not_ready() or ""), "the operator has begun")
        tried = listed_at(both, "shut")
        both.cluster.unlisted = set()
        await until(lambda: operator.not_ready() is None, "it is ready")
        assert listed_at(both, "shut") > tried
    assert caplog.text.count("Providers of namespace shut cannot be listed") == 1


async def test_a_listing_that_lacks_a_namespace_is_not_whole(both: World) -> None:
    both.cluster.unlisted = {"shut"}
    with pytest.raises(SourceUnavailable, match="shut cannot be listed"):
        (await both.cluster.list()).whole()
