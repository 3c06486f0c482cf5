"""A model that its vendor has withdrawn, or replaced under the same name, is told with the way out and its price."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.api import Api
from fixtures.engine import World
from fixtures.memories import Memories
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.fill.fingerprints import TEXTS
from memory_operator.store.jobs import jobs
from memory_operator.store.spaces import registry
from vendor.script import Fault
from vendor.stub import StubVendor

GONE = Fault(status=404, body='{"error":{"code":"model_not_found","message":"The model `a` does not exist"}}')
PROXY = Fault(status=404, body="<html>404 page not found</html>")


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def other() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def provider(vendor: StubVendor, model: str = "a") -> dict[str, Any]:
    return {
        "type": "openai_compatible",
        "model": model,
        "baseURL": vendor.base_url,
        "embedding": {"dimensions": 64},
        "pricing": {"inputCostPer1K": "0.02"},
    }


async def ready(memories: Memories, vendor: StubVendor, name: str = "memory", model: str = "a") -> ProviderRef:
    ref = memories.world.cluster.apply(name, provider(vendor, model))
    await memories.world.until_phase(ref, "Ready")
    return ref


async def a_minute_passes(world: World) -> None:
    """For what is remembered of models that are gone, by the database's clock."""
    await world.fetch("update memory_model_checks set gone_since = gone_since - interval '2 min'")


def condition(world: World, ref: ProviderRef, kind: str) -> tuple[str, str]:
    found = world.cluster.condition(ref, kind)
    return found.status, found.message


def events(world: World, reason: str) -> list[str]:
    return [event.type for _, event in world.cluster.events if event.reason == reason]


def gauge(world: World, name: str) -> float | None:
    return world.store.metrics.registry.get_sample_value(name, {"provider": "default/memory"})


async def test_a_model_that_the_vendor_has_withdrawn_is_told_with_the_price_of_another(
    memories: Memories, vendor: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await ready(memories, vendor)
        await memories.add("while it is there")
        vendor.fault = GONE
        await memories.add("when it is gone")
        await until(lambda: world.value("select gone_since from memory_model_checks"), "it is noticed")
        assert not world.cluster.condition(ref, "ModelRetired")
        await a_minute_passes(world)
        await until(lambda: condition(world, ref, "ModelRetired")[0] == "True", "it is told")
        text = condition(world, ref, "ModelRetired")[1]
        assert "the vendor has no model a of a-64-1 any more" in text
        assert "edit spec.model" in text
        assert "embeds 2 chunks" in text
        assert "USD" in text
        assert gauge(world, "memory_model_retired") == 1
        assert events(world, "ModelGone") == ["Warning"]
        vendor.fault = None
        await until(lambda: condition(world, ref, "ModelRetired")[0] == "False", "it is there again")
        assert gauge(world, "memory_model_retired") == 0
        assert events(world, "ModelGone") == ["Warning"]


async def test_a_full_space_of_another_provider_is_the_way_out(
    memories: Memories, vendor: StubVendor, other: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await ready(memories, vendor)
        await ready(memories, other, "second", "b")
        vendor.fault = GONE
        await memories.add("when it is gone")
        await until(lambda: world.value("select count(*) from memory_model_checks where gone_since < now()"), "noticed")
        await a_minute_passes(world)
        await until(
            lambda: "`memory embeddings activate b-64-2`" in condition(world, ref, "ModelRetired")[1],
            "the other space is named",
        )


async def test_a_query_notices_it_too(memories: Memories, vendor: StubVendor) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await ready(memories, vendor)
        await memories.add("while it is there")
        vendor.fault = GONE
        answer = await memories.query("while")
        assert answer.diagnostics.semantic_status == "embedder_unavailable"
        assert await world.value("select gone_since is not null from memory_model_checks where space_id = 1")
        vendor.fault = None
        await memories.query("again")
        assert await world.value("select gone_since is null from memory_model_checks where space_id = 1")


async def test_a_proxys_404_page_is_no_word_about_the_model(memories: Memories, vendor: StubVendor) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await ready(memories, vendor)
        vendor.fault = PROXY
        await memories.add("while a proxy is in the way")
        await until(lambda: world.cluster.condition(ref, "Reachable").status == "False", "it is out of reach")
        assert not await world.value("select count(*) from memory_model_checks where gone_since is not null")


async def checked(world: World) -> None:
    """Have the model checked now, and wait until it was."""
    await until(lambda: world.value("select due_at from memory_model_checks where space_id = 1"), "it is scheduled")
    await world.fetch("update memory_model_checks set due_at = now() where space_id = 1")
    await until(
        lambda: world.value("select drift is not null and due_at > now() + interval '9 min' from memory_model_checks"),
        "it is checked",
    )


async def test_a_model_that_was_replaced_under_its_name_is_told_once_two_checks_say_so(
    memories: Memories, vendor: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await ready(memories, vendor)
        await memories.add("before")
        await checked(world)
        assert await world.value("select noise from memory_model_checks") < 1e-6
        assert vendor.inputs.count(TEXTS[0]) == 2
        await checked(world)
        assert vendor.inputs.count(TEXTS[0]) == 3
        assert not world.cluster.condition(ref, "ModelDrifted")
        vendor.fault = Fault(becomes="another")
        await checked(world)
        assert not world.cluster.condition(ref, "ModelDrifted")
        await checked(world)
        await until(lambda: condition(world, ref, "ModelDrifted")[0] == "True", "it is told")
        text = condition(world, ref, "ModelDrifted")[1]
        assert "`memory embeddings rebuild --space a-64-1` embeds 1 chunks anew" in text
        assert events(world, "OtherVectors") == ["Warning"]
        assert gauge(world, "memory_model_drifted") == 1
        purposes = "select distinct purpose from memory_usage_ledger where inputs = 16"
        assert [row["purpose"] for row in await world.fetch(purposes)] == ["maintenance"]


async def test_a_rebuild_begins_anew_with_the_comparison(memories: Memories, vendor: StubVendor) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await ready(memories, vendor)
        await memories.add("before")
        await checked(world)
        vendor.fault = Fault(becomes="another")
        await checked(world)
        await checked(world)
        await until(lambda: condition(world, ref, "ModelDrifted")[0] == "True", "it is told")
        async with world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await jobs.start(conn, 1, kind="reembed", replace=True)
        await until(lambda: condition(world, ref, "ModelDrifted")[0] == "False", "it is told no longer")
        await checked(world)
        assert await world.value("select drift from memory_model_checks") == 0
        assert condition(world, ref, "ModelDrifted")[0] == "False"


async def test_the_role_of_the_api_may_note_that_a_model_is_gone(
    memories: Memories, vendor: StubVendor, api: Api
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await ready(memories, vendor)
        await memories.add("while it is there")
        vendor.fault = GONE
        answer = await api.post("/memory/query", {"query": "while"})
        assert answer.json()["diagnostics"]["semantic_status"] == "embedder_unavailable"
        assert await world.value("select gone_since is not null from memory_model_checks where space_id = 1")


async def test_a_model_is_asked_for_nothing_in_the_first_minutes_nor_again_on_the_same_day(
    memories: Memories, vendor: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await ready(memories, vendor)
        await memories.add("before")
        due = "select extract(epoch from due_at - now()) / 60 from memory_model_checks"
        await until(lambda: world.value("select count(*) from memory_model_checks where due_at > now()"), "scheduled")
        assert 0 < await world.value(due) < 15
        await checked(world)
        assert 21 * 60 < await world.value(due) < 27 * 60
