"""The way back after a switch: the replaced space keeps getting new memories for a while, and answers again at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.proc import OwnProcess
from fixtures.engine import World
from fixtures.memories import Memories
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
from vendor.script import Fault
from vendor.stub import StubVendor


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
        await until(lambda: lacks_none(world, 1), "each memory has its vector in the space that answers")
        await until(lambda: lacks_none(world, 2), "and in the Provider's own")
        answer = await memories.query("thing 3 of writer 1")
        assert answer.diagnostics.embedding_version == OLD
        assert answer.diagnostics.semantic_status == "ok"
        assert "thing 3 of writer 1" in [hit.text for hit in answer.results]
        assert await states(world) == [("ready", False), ("ready", False)]


async def _covered(catalog: Catalog) -> bool:
    return next(view for view in await catalog.spaces() if view.space.id == 1).coverage >= 0.99


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
        await until(lambda: lacks_none(world, 1), "the kept space has what was added")
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
        await until(lambda: lacks_none(world, 1), "the kept space has it")
        fills = "select count(*) from memory_usage_ledger where space_id = 1 and purpose = 'fill'"
        before = await world.value(fills)
        world.cluster.apply("memory", provider(old, "old"))
        await until(lambda: is_active(world, OLD), "the old space answers again")
        assert await states(world) == [("ready", False), ("retired", True)]
        assert await world.value(fills) == before


async def test_a_provider_that_comes_back_after_the_way_back_answers_again(
    memories: Memories, old: StubVendor, new: StubVendor
) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = await switched(memories, old, new)
        await Catalog(world.store).activate(OLD, None, BY)
        spec = world.cluster.spec(ref)
        world.cluster.delete(ref)
        await until(lambda: states_are(world, [("orphaned", False), ("orphaned", False)]), "both are orphaned")
        assert spec is not None
        world.cluster.apply("memory", spec)
        await until(lambda: is_active(world, NEW), "the Provider's own space answers")


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
            await until(lambda: lacks_none(world, 1), "another worker has made the vectors", 240)
        assert await memories.counted()
        await Catalog(world.store).activate(OLD, None, BY)


async def test_a_kept_space_of_the_same_vendor_uses_a_key_that_moved_to_another_secret(
    memories: Memories, old: StubVendor
) -> None:
    world = memories.world
    world.cluster.secrets[("default", "key")] = {"api-key": "sk-first"}
    world.cluster.secrets[("default", "other")] = {"api-key": "sk-second"}
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(old, "old"))
        await world.until_phase(ref, "Ready")
        await memories.add("before")
        prefixed = provider(old, "old", documentPrefix="d: ")
        world.cluster.apply("memory", prefixed)
        await until(lambda: is_active(world, "old-64-2"), "the space with the prefix is active")
        world.cluster.apply("memory", {**prefixed, "credential": {"secretRef": {"name": "other"}}})
        moved = (
            "select count(*) = 2 from memory_embedding_spaces where config -> 'credential' -> 'secret' ->> 'name' = $1"
        )
        await until(lambda: world.value(moved, "other"), "both spaces name the other Secret")
        old.forget()
        await memories.add("after")
        await until(lambda: lacks_none(world, 1), "the kept space has it")
        assert set(old.keys) == {"sk-second"}
