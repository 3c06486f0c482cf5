"""Writing and asking while Providers are edited: nothing is lost, and no answer mixes two models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fixtures.memories import AGENT, Memories
from fixtures.waiting import until
from memory_operator.engine.memories.remember import Changes
from memory_operator.engine.memories.version_write import StoredMemory
from memory_operator.store.spaces import vectors


def mock(dimensions: int, model: str = "m", **embedding: Any) -> dict[str, Any]:
    return {"type": "mock", "model": model, "embedding": {"dimensions": dimensions, **embedding}}


@asynccontextmanager
async def traffic(memories: Memories) -> AsyncIterator[list[StoredMemory]]:
    """Memories added, amended, forgotten and looked for, all the while; those that must be findable at the end."""
    kept: list[StoredMemory] = []
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            stored = await memories.add(f"thing {number} of writer {writer}")
            if number % 3 == 0:
                stored = await memories.remember.amend("default", stored.id, Changes(f"changed {number}"), AGENT)
            if number % 5 == 0:
                await memories.remember.forget("default", stored.id, AGENT)
            else:
                kept.append(stored)
            await memories.query(f"thing {number}")

    tasks = [asyncio.create_task(write(writer), name=f"writer {writer}") for writer in range(3)]
    try:
        yield kept
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def active_version(memories: Memories) -> str | None:
    version: str | None = await memories.world.value(
        "select s.embedding_version from memory_registry r join memory_embedding_spaces s on s.id = r.active_space_id"
    )
    return version


async def is_complete(memories: Memories) -> bool:
    """Whether every live chunk has a vector in the active space."""
    space_id = await memories.world.value("select active_space_id from memory_registry")
    missing = await memories.world.value(
        f"select count(*) from memory_chunks c left join {vectors.table(space_id)} v on v.chunk_id = c.id"
        " where c.live and v.chunk_id is null"
    )
    return bool(missing == 0)


async def test_an_edit_of_the_model_loses_nothing_that_is_written_meanwhile(memories: Memories) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock(64, "one"))
        await world.until_phase(ref, "Ready")
        first = await active_version(memories)
        async with traffic(memories) as kept:
            await until(lambda: len(kept) > 20, "more than 20 memories are stored")
            world.cluster.apply("memory", mock(64, "two"))
            await until(lambda: _differs(memories, first), "the space is another one")
            assert await is_complete(memories)
            count = len(kept)
            await until(lambda: len(kept) > count + 20, "20 memories more are stored")
        await until(lambda: is_complete(memories), "every chunk has its vector")
        for stored in kept:
            assert (await memories.remember.show("default", stored.id)).embedding_status == "embedded"
        await memories.counted()


async def test_a_reshape_loses_nothing_that_is_written_meanwhile(memories: Memories) -> None:
    world = memories.world
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock(64))
        await world.until_phase(ref, "Ready")
        async with traffic(memories) as kept:
            await until(lambda: len(kept) > 20, "more than 20 memories are stored")
            await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
            world.cluster.apply("memory", mock(32))
            await until(lambda: _is_dimension(memories, 32), "dimension 32 is applied")
            count = len(kept)
            await until(lambda: len(kept) > count + 20, "20 memories more are stored")
        await until(lambda: is_complete(memories), "every chunk has its vector")
        for stored in kept:
            assert (await memories.remember.show("default", stored.id)).embedding_status == "embedded"
        await memories.counted()


async def _differs(memories: Memories, first: str | None) -> bool:
    return await active_version(memories) not in (None, first)


async def _is_dimension(memories: Memories, dimensions: int) -> bool:
    return bool(
        await memories.world.value(
            "select s.dimensions = $1 from memory_registry r"
            " join memory_embedding_spaces s on s.id = r.active_space_id",
            dimensions,
        )
    )
