"""The way back after a switch: the replaced space keeps getting new memories for a while, and answers again at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.proc import OwnProcess
from fixtures.engine import Cluster, World, open_world
from fixtures.memories import Memories, memories_of
from fixtures.skew import skew
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.errors import Conflict
from memory_operator.store.db.activity import Actor
from vendor.script import Fault
from vendor.stub import StubVendor

BY = Actor("tester", "test")
OLD, NEW = "old-64-1", "new-64-2"


@pytest.fixture
def old() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def new() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def provider(vendor: StubVendor, model: str, **embedding: Any) -> dict[str, Any]:
    return {
        "type": "openai_compatible",
        "model": model,
        "baseURL": vendor.base_url,
        "credential": {"secretRef": {"name": "key"}},
        "embedding": {"dimensions": 64, **embedding},
        "pricing": {"inputCostPer1K": "0.02"},
    }


def without_key(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != "credential"}


async def switched(
    memories: Memories, old: StubVendor, new: StubVendor, *, key: bool = True, **embedding: Any
) -> ProviderRef:
    """A store that an edit has just moved from one vendor's model to another's."""
    world = memories.world
    world.cluster.secrets[("default", "key")] = {"api-key": "sk-any"}
    before, after = (provider(vendor, name, **embedding) for vendor, name in ((old, "old"), (new, "new")))
    ref = world.cluster.apply("memory", before if key else without_key(before))
    await world.until_phase(ref, "Ready")
    for number in range(5):
        await memories.add(f"before {number}")
    world.cluster.apply("memory", after if key else without_key(after))
    await until(lambda: is_active(world, NEW), "the new model's space is active")
    return ref


async def is_active(world: World, version: str) -> bool:
    found = await world.value(
        "select s.embedding_version from memory_registry r join memory_embedding_spaces s on s.id = r.active_space_id"
    )
    return bool(found == version)


async def states(world: World) -> list[tuple[str, bool]]:
    """State of each space, and whether it is kept."""
    rows = await world.fetch(
        "select state, coalesce(kept_until > now(), false) as kept from memory_embedding_spaces order by id"
    )
    return [tuple(row) for row in rows]


async def lacking(world: World, space_id: int) -> int:
    return int(
        await world.value(
            "select count(*) from memory_chunks c where c.live"
            f" and not exists (select from memory_vectors_{space_id} v where v.chunk_id = c.id)"
        )
    )


async def lapse(world: World) -> None:
    """Let the time of all kept spaces be over, by the database's clock."""
    await world.fetch("update memory_embedding_spaces set kept_until = now() - interval '1 s' where kept_until > now()")


@asynccontextmanager
async def adding(memories: Memories) -> AsyncIterator[list[str]]:
    """Memories that are added all the while; how each was embedded."""
    statuses: list[str] = []
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            stored = await memories.add(f"thing {number} of writer {writer}")
            statuses.append(stored.embedding_status)

    tasks = [asyncio.create_task(write(writer), name=f"writer {writer}") for writer in range(2)]
    try:
        yield statuses
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_the_way_back_is_open_and_complete_while_memories_are_added(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        async with adding(memories) as statuses:
            await until(lambda: len(statuses) >= 40, "some memories are added after the switch")
            catalog = Catalog(world.store)
            await until(lambda: _covered(catalog), "the kept space follows within its share of pending chunks")
            view = await catalog.activate(OLD, None, BY)
            assert view.figures.active
            assert view.space.state == "ready"
            assert view.unaccounted == 0
            went_back = len(statuses)
            await until(lambda: len(statuses) >= went_back + 20, "memories are added after the way back, too")
        await until(lambda: _lacks_none(world, 1), "each memory has its vector in the space that answers")
        await until(lambda: _lacks_none(world, 2), "and in the Provider's own")
        answer = await memories.query("thing 3 of writer 1")
        assert answer.diagnostics.embedding_version == OLD
        assert answer.diagnostics.semantic_status == "ok"
        assert "thing 3 of writer 1" in [hit.text for hit in answer.results]
        assert await states(world) == [("ready", False), ("ready", False)]


async def _covered(catalog: Catalog) -> bool:
    return next(view for view in await catalog.spaces() if view.space.id == 1).coverage >= 0.99


async def _lacks_none(world: World, space_id: int) -> bool:
    return await lacking(world, space_id) == 0


async def test_no_add_waits_for_the_kept_space_and_what_it_takes_is_booked_as_maintenance(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await switched(memories, old, new)
        old.fault = Fault(hold=True)
        stored = [await memories.add(f"after {number}") for number in range(5)]
        assert {each.embedding_status for each in stored} == {"embedded"}
        assert await lacking(world, 1) == 5
        old.fault = None
        await until(lambda: _lacks_none(world, 1), "the kept space has what was added")
        purposes = await world.fetch(
            "select distinct purpose from memory_usage_ledger where space_id = 1"
            " and at > (select state_changed_at from memory_embedding_spaces where id = 1) and purpose <> 'probe'"
        )
        assert [row["purpose"] for row in purposes] == ["maintenance"]
        tokens = "select sum(tokens) from memory_usage_ledger where space_id = 1 and purpose = 'maintenance'"
        await until(
            lambda: world.value(f"select kept_tokens = ({tokens}) from memory_embedding_spaces where id = 1"),
            "what it took is added up",
        )
        await until(lambda: _told(world, ref), "the status tells what the way back has cost")
        embedding = world.cluster.statuses[ref].embedding
        assert embedding is not None
        assert embedding.way_back == OLD
        assert embedding.kept_until is not None
        assert float(embedding.kept_cost or 0) > 0


def _told(world: World, ref: ProviderRef) -> bool:
    embedding = world.cluster.statuses[ref].embedding
    return bool(embedding and embedding.kept_tokens)


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
        await until(lambda: _lacks_none(world, 1), "what was lacking is filled")
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
        await until(lambda: _states_are(world, [("retired", False), ("ready", False)]), "the old space is not kept")
        old.forget()
        await memories.add("after the switch")
        assert await lacking(world, 1) == 1
        assert await world.value("select count(*) from memory_embedding_pending where space_id = 1") == 0
        assert old.count == 0


async def _states_are(world: World, wanted: list[tuple[str, bool]]) -> bool:
    return await states(world) == wanted


async def test_a_permanent_refusal_of_the_old_vendor_ends_it(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        old.fault = Fault(status=404)
        await memories.add("after the switch")
        await until(lambda: _states_are(world, [("retired", False), ("ready", False)]), "it is kept no longer")
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
        await until(lambda: _lacks_none(world, 1), "the kept space has it")
    cluster.secrets[("default", "key")] = {"api-key": "sk-of-the-new-vendor"}
    async with open_world(database, cluster) as world, world.operator(), world.worker():
        await memories_of(world).add("with another key")
        await until(lambda: _states_are(world, [("retired", False), ("ready", False)]), "it is kept no longer")
    assert set(old.keys) == {"sk-any"}


async def test_going_forward_again_keeps_the_space_that_was_gone_back_to(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world, catalog = memories.world, Catalog(memories.world.store)
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        await catalog.activate(OLD, None, BY)
        assert await states(world) == [("ready", False), ("ready", False)]
        await catalog.activate(NEW, None, BY)
        assert await states(world) == [("retired", True), ("ready", False)]
        await catalog.activate(OLD, None, BY)
        world.cluster.apply("memory", provider(new, "third"))
        await until(lambda: is_active(world, "third-64-3"), "the edit's space takes the place of both")
        assert await states(world) == [("retired", True), ("retired", True), ("ready", False)]


async def test_an_edit_back_takes_the_kept_space_and_embeds_nothing(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        await memories.add("after the switch")
        await until(lambda: _lacks_none(world, 1), "the kept space has it")
        fills = "select count(*) from memory_usage_ledger where space_id = 1 and purpose = 'fill'"
        before = await world.value(fills)
        world.cluster.apply("memory", provider(old, "old"))
        await until(lambda: is_active(world, OLD), "the old space answers again")
        assert await states(world) == [("ready", False), ("retired", True)]
        assert await world.value(fills) == before


async def test_it_ends_with_its_provider(memories: Memories, old: StubVendor, new: StubVendor) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await switched(memories, old, new)
        world.cluster.delete(ref)
        await until(lambda: _states_are(world, [("retired", False), ("orphaned", False)]), "nothing is kept")


async def test_a_prune_tells_that_a_way_back_goes_with_the_space(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world, catalog = memories.world, Catalog(memories.world.store)
    async with world.operator(), world.worker():
        await switched(memories, old, new)
        [found] = await catalog.prune(["default"], BY, dry_run=True)
        assert found.kept_until is not None
        await lapse(world)
        [found] = await catalog.prune(["default"], BY)
        assert found.kept_until is None


@pytest.mark.parametrize("hours", [-30, 30])
async def test_the_databases_clock_says_until_when(database: str, old: StubVendor, new: StubVendor, hours: int) -> None:
    await skew(database, hours)
    async with open_world(database) as world, world.operator(), world.worker():
        memories = memories_of(world)
        await switched(memories, old, new)
        await memories.add("after the switch")
        await until(lambda: _lacks_none(world, 1), "the kept space has it")
        assert await states(world) == [("retired", True), ("ready", False)]


async def test_a_worker_that_is_killed_between_switch_and_catching_up_leaves_it_to_the_next(
    memories: Memories, old: StubVendor, new: StubVendor, tmp_path: Path
) -> None:
    world = memories.world
    async with world.operator():
        async with world.worker():
            await switched(memories, old, new, key=False)
        for number in range(20):
            await memories.add(f"after {number}")
        old.fault = Fault(hold=True)
        old.forget()
        (tmp_path / "one").mkdir()
        with OwnProcess(tmp_path / "one", world.dsn, "worker") as process:
            await until(lambda: old.count > 0, "the worker has sent what the kept space lacks")
            os.kill(process.pid, signal.SIGKILL)
        old.fault = None
        async with world.worker():
            await until(lambda: _lacks_none(world, 1), "another worker has made the vectors", 240)
        assert await memories.counted()
        await Catalog(world.store).activate(OLD, None, BY)
