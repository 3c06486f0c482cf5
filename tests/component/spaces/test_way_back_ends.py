"""The end of the way back: its time, its price, a refusal, another owner."""

from __future__ import annotations

import pytest

from fixtures.engine import Cluster, World, open_world
from fixtures.memories import Memories, memories_of
from fixtures.skew import skew
from fixtures.waiting import until
from fixtures.way_back import (
    BY,
    NEW,
    OLD,
    is_active,
    lacking,
    lacks_none,
    lapse,
    provider,
    states,
    states_are,
    switched,
)
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.errors import Conflict
from vendor.script import Fault
from vendor.stub import StubVendor


async def test_after_its_time_the_way_back_says_what_is_lacking_and_fills_it_by_force(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world, catalog = memories.world, Catalog(memories.world.store)
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        await lapse(world)
        old.forget()
        for number in range(3):
            await memories.add(f"after {number}")
        with pytest.raises(Conflict) as refused:
            await catalog.activate(OLD, None, BY)
        assert refused.value.code == "space_retired"
        assert "lacks 3 of 8 chunks" in refused.value.message
        assert "USD" in refused.value.message
        assert refused.value.extra["lacking"] == 3
        assert await is_active(world, NEW)
        assert old.count == 0
        await catalog.activate(OLD, None, BY, force=True)
        assert await is_active(world, OLD)
        await until(lambda: lacks_none(world, 1), "what was lacking is filled")
        await until(lambda: _is_ready(world, 1), "the space is ready")


async def _is_ready(world: World, space_id: int) -> bool:
    return bool(await world.value("select state = 'ready' from memory_embedding_spaces where id = $1", space_id))


async def test_nothing_pending_is_left_where_the_time_is_over(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        old.fault = Fault(hold=True)
        await memories.add("after the switch")
        await lapse(world)
        await until(
            lambda: world.value("select count(*) = 0 from memory_embedding_pending where space_id = 1"),
            "nothing waits for the space that is kept no longer",
        )
        old.fault = None


@pytest.mark.parametrize("late", [False, True])
async def test_keep_for_0s_keeps_nothing_from_the_start_or_from_an_edit_on(
    memories: Memories, old: StubVendor, new: StubVendor, late: bool
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await switched(memories, old, new, **({} if late else {"keepFor": "0s"}))
        if late:
            assert await states(world) == [("retired", True), ("ready", False)]
            world.cluster.apply("memory", provider(new, "new", keepFor="0s"))
        await until(lambda: states_are(world, [("retired", False), ("ready", False)]), "the old space is not kept")
        old.forget()
        await memories.add("after the switch")
        assert await lacking(world, 1) == 1
        assert await world.value("select count(*) from memory_embedding_pending where space_id = 1") == 0
        assert old.count == 0


async def test_a_permanent_refusal_of_the_old_vendor_ends_it(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        old.fault = Fault(status=404)
        await memories.add("after the switch")
        await until(lambda: states_are(world, [("retired", False), ("ready", False)]), "it is kept no longer")
        with pytest.raises(Conflict, match="no model 'old'"):
            await Catalog(world.store).activate(OLD, None, BY)
        await world.until_phase(ProviderRef("default", "memory"), "Ready")


async def test_a_key_that_was_replaced_by_the_new_vendors_ends_it_and_never_reaches_the_old_one(
    database: str, old: StubVendor, new: StubVendor
) -> None:
    cluster = Cluster()
    async with open_world(database, cluster) as world, world.operator(), world.worker():
        memories = memories_of(world)
        await switched(memories, old, new)
        await memories.add("with the key that worked")
        await until(lambda: lacks_none(world, 1), "the kept space has it")
    cluster.secrets[("default", "key")] = {"api-key": "sk-of-the-new-vendor"}
    async with open_world(database, cluster) as world, world.operator(), world.worker():
        await memories_of(world).add("with another key")
        await until(lambda: states_are(world, [("retired", False), ("ready", False)]), "it is kept no longer")
    assert set(old.keys) == {"sk-any"}


async def test_it_ends_with_its_provider(memories: Memories, old: StubVendor, new: StubVendor) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await switched(memories, old, new)
        world.cluster.delete(ref)
        await until(lambda: states_are(world, [("retired", False), ("orphaned", False)]), "nothing is kept")
        with pytest.raises(Conflict, match="is gone, so nothing could embed queries"):
            await Catalog(world.store).activate(OLD, None, BY, force=True)


async def test_another_provider_that_asks_for_the_kept_space_gets_it(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await switched(memories, old, new)
        other = world.cluster.apply("second", provider(old, "old"))
        await world.until_phase(other, "Ready")
        assert await states(world) == [("ready", False), ("ready", False)]
        owners = "select provider_name from memory_embedding_spaces order by id"
        assert [row["provider_name"] for row in await world.fetch(owners)] == ["second", "memory"]
        await until(lambda: _no_way_back(world, ref), "the way back is told no longer")
        world.cluster.apply("memory", provider(new, "third"))
        await until(lambda: is_active(world, "third-64-3"), "the next edit's space answers")
        assert await states(world) == [("ready", False), ("retired", True), ("ready", False)]


def _no_way_back(world: World, ref: ProviderRef) -> bool:
    embedding = world.cluster.statuses[ref].embedding
    return embedding is not None and embedding.way_back is None


async def test_what_was_written_without_the_kept_space_in_mind_is_lacking_and_told(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        await world.stored(1)  # as an API of release 0.1 does, which marks nothing as pending for it
        with pytest.raises(Conflict, match="lacks 1 of 6 chunks"):
            await Catalog(world.store).activate(OLD, None, BY)


@pytest.mark.parametrize("hours", [-30, 30])
async def test_the_databases_clock_says_until_when(database: str, old: StubVendor, new: StubVendor, hours: int) -> None:
    await skew(database, hours)
    async with open_world(database) as world, world.operator(), world.worker():
        memories = memories_of(world)
        await switched(memories, old, new)
        await memories.add("after the switch")
        await until(lambda: lacks_none(world, 1), "the kept space has it")
        assert await states(world) == [("retired", True), ("ready", False)]
