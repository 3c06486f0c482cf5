"""A held change is (Provider, uid, target dimension); a marker serves one, and leaving it withdraws the marker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from vendor.stub import StubVendor

INSERT = "insert into memory_embedding_dim_change_consent (target_dim) values ($1)"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def spec(vendor: StubVendor, dimensions: int, **embedding: Any) -> dict[str, Any]:
    return {
        "type": "openai_compatible",
        "model": "m",
        "baseURL": vendor.base_url,
        "embedding": {"dimensions": dimensions, **embedding},
    }


async def filled(world: World, vendor: StubVendor, name: str = "memory", **embedding: Any) -> ProviderRef:
    ref = world.cluster.apply(name, spec(vendor, 64, **embedding))
    await world.until_phase(ref, "Ready")
    return ref


async def held_at(world: World, ref: ProviderRef, dimensions: int, word: str = "none") -> None:
    await until(
        lambda: f"to {dimensions} would" in settled(world, ref) and f"marker={word}" in settled(world, ref),
        f"the change of {ref} to {dimensions} is held with marker={word}",
    )


async def held_at_32(world: World, vendor: StubVendor) -> ProviderRef:
    """A Provider whose space is full, and whose change to 32 is held."""
    ref = await filled(world, vendor)
    world.cluster.apply("memory", spec(vendor, 32))
    await held_at(world, ref, 32)
    return ref


def settled(world: World, ref: ProviderRef) -> str:
    found = world.cluster.condition(ref, "DimensionSettled")
    return found.message if found else ""


async def waits_for_its_embedder(world: World, ref: ProviderRef) -> None:
    await until(lambda: "the consent is kept" in settled(world, ref), "the consented change waits for its embedder")


async def applied(world: World, ref: ProviderRef, dimensions: int) -> None:
    await until(
        lambda: world.cluster.statuses[ref].embedding.applied_dimensions == dimensions, f"{dimensions} is applied"
    )


async def markers(world: World) -> list[str]:
    rows = await world.fetch(
        "select case when consumed_at is not null then 'consumed' when withdrawn_at is not null then 'withdrawn'"
        " else 'open' end as state from memory_embedding_dim_change_consent order by id"
    )
    return [row["state"] for row in rows]


async def test_a_marker_does_not_outlive_its_change_when_another_is_held_next(world: World, vendor: StubVendor) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await filled(world, vendor)
        url = vendor.base_url
        vendor.stop()
        world.cluster.apply("memory", {**spec(vendor, 32), "baseURL": url})
        await held_at(world, ref, 32)
        await world.fetch(INSERT, 32)
        await waits_for_its_embedder(world, ref)
        world.cluster.apply("memory", {**spec(vendor, 16), "baseURL": url})
        await held_at(world, ref, 16)
        assert await markers(world) == ["withdrawn"]
        vendor.start()
        world.cluster.apply("memory", {**spec(vendor, 32), "baseURL": url})
        await held_at(world, ref, 32)
        assert await world.value("select count(*) from memory_vectors_1") == 10


async def test_a_marker_of_a_change_that_was_never_seen_held_is_withdrawn_with_it_too(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await filled(world, vendor)
    url = vendor.base_url
    vendor.stop()
    world.cluster.apply("memory", {**spec(vendor, 32), "baseURL": url})
    await world.fetch(INSERT, 32)
    async with world.operator(), world.worker():
        await waits_for_its_embedder(world, ref)
        world.cluster.apply("memory", {**spec(vendor, 16), "baseURL": url})
        await held_at(world, ref, 16)
        assert await markers(world) == ["withdrawn"]


async def test_other_edits_a_restart_and_an_unreachable_vendor_do_not_end_a_held_change(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await filled(world, vendor)
        url = vendor.base_url
        vendor.stop()
        world.cluster.apply("memory", {**spec(vendor, 32), "baseURL": url})
        await held_at(world, ref, 32)
        await world.fetch(INSERT, 32)
        await waits_for_its_embedder(world, ref)
        world.cluster.apply("memory", {**spec(vendor, 32, batchSize=3), "baseURL": url})
        await until(
            lambda: world.cluster.statuses[ref].observed_generation == 3, "the edit of another field is looked at"
        )
        world.cluster.apply("memory", {**spec(vendor, 32), "baseURL": url, "modle": "x"})
        await world.until_phase(ref, "Error")
        world.cluster.apply("memory", {**spec(vendor, 32), "baseURL": url})
        await waits_for_its_embedder(world, ref)
    vendor.start()
    async with world.operator(), world.worker():
        await applied(world, ref, 32)
    assert await markers(world) == ["consumed"]


async def test_a_marker_inserted_while_the_operator_is_stopped_opens_what_is_held_when_it_starts(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await held_at_32(world, vendor)
    await world.fetch(INSERT, 32)
    async with world.operator(), world.worker():
        await applied(world, ref, 32)
    assert await markers(world) == ["consumed"]


async def test_a_marker_for_what_was_held_is_gone_when_the_operator_starts_on_another_change(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await held_at_32(world, vendor)
    await world.fetch(INSERT, 32)
    world.cluster.apply("memory", spec(vendor, 16))
    async with world.operator(), world.worker():
        await held_at(world, ref, 16)
        world.cluster.apply("memory", spec(vendor, 32))
        await held_at(world, ref, 32)
    assert await markers(world) == ["withdrawn"]
    assert await world.value("select count(*) from memory_vectors_1") == 10


async def test_a_bare_marker_that_served_one_provider_never_opens_the_gate_of_another(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        first = await filled(world, vendor)
        second = await filled(world, vendor, "other", documentPrefix="d: ")
        url = vendor.base_url
        vendor.stop()
        world.cluster.apply("memory", {**spec(vendor, 32), "baseURL": url})
        await held_at(world, first, 32)
        await world.fetch(INSERT, 32)
        await waits_for_its_embedder(world, first)
        world.cluster.apply("other", {**spec(vendor, 32, documentPrefix="d: "), "baseURL": url})
        await held_at(world, second, 32)
        world.cluster.apply("memory", {**spec(vendor, 64), "baseURL": url})
        await until(lambda: is_withdrawn(world), "the marker is withdrawn with the change that it served")
        vendor.start()
        await held_at(world, second, 32)
        assert await world.value("select count(*) from memory_vectors_2") == 10


async def test_a_marker_that_is_recorded_while_its_change_is_given_up_does_not_outlive_it(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        await held_at_32(world, vendor)
        async with world.store.transaction() as conn:
            await conn.execute(INSERT, 32)
            world.cluster.apply("memory", spec(vendor, 64))
            await until(lambda: _given_up_or_waiting(world), "the operator gives it up, or waits for the marker")
        await until(lambda: is_withdrawn(world), "the marker is withdrawn")


async def _given_up_or_waiting(world: World) -> bool:
    return await world.value("select count(*) = 0 from memory_pending_changes") or await world.waits_for_a_lock()


async def is_withdrawn(world: World) -> bool:
    return await markers(world) == ["withdrawn"]


async def test_the_databases_clock_says_what_is_expired(world: World, vendor: StubVendor) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await filled(world, vendor)
        calls = vendor.count
        world.cluster.apply("memory", spec(vendor, 32))
        await held_at(world, ref, 32)
        # This process's clock is an hour behind the database's, as far as such a marker tells.
        await world.fetch(
            "insert into memory_embedding_dim_change_consent (target_dim, expires_at)"
            " values (32, clock_timestamp() - interval '1 microsecond')"
        )
        await held_at(world, ref, 32, "expired")
        assert vendor.count == calls


@pytest.mark.parametrize("moment", ["infinity", "20000-01-01", "-infinity", "0044-03-15 BC"])
async def test_any_time_that_the_table_takes_is_read(world: World, vendor: StubVendor, moment: str) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await held_at_32(world, vendor)
        await world.fetch(
            "insert into memory_embedding_dim_change_consent (target_dim, expires_at, created_at)"
            f" values (32, '{moment}', '{moment}')"
        )
        if moment == "infinity" or moment.startswith("2"):
            await applied(world, ref, 32)
        else:
            await held_at(world, ref, 32, "expired")


async def test_the_activity_log_says_which_marker_opened_which_gate(world: World, vendor: StubVendor) -> None:
    await world.stored(10)
    async with world.operator(), world.worker():
        ref = await held_at_32(world, vendor)
        marker = await world.value(INSERT + " returning id", 32)
        await applied(world, ref, 32)
    detail = await world.value("select detail from memory_activity where kind = 'reshape'")
    assert (detail["provider"], detail["marker"]) == (str(ref), marker)
