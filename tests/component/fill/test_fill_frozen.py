"""A database that says nothing any more, and closes nothing either: a frozen server, a network that swallows all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from fixtures.engine import World, open_world
from fixtures.fills import complete, provider, some_are_stored, sound
from fixtures.waiting import until
from fixtures.wire import Wire
from memory_operator.engine.fill.worker import Worker
from memory_operator.store.db import pool
from vendor.stub import StubVendor

CHUNKS = 1_500
STOP_SECONDS = 20
"""A pod has 30 s to end."""


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64, latency_ms=50) as stub:
        yield stub


@asynccontextmanager
async def far_away(world: World) -> AsyncIterator[tuple[Wire, World]]:
    """An operator beside the database, and the same world at the other end of a wire."""
    async with (
        world.operator(),
        Wire(world.dsn).laid() as wire,
        open_world(wire.dsn, world.cluster) as far,
    ):
        yield wire, far


async def test_a_worker_that_is_stopped_while_the_database_is_frozen_ends_in_time(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(CHUNKS)
    async with far_away(world) as (wire, far):
        world.cluster.apply("memory", provider(vendor))
        stop = asyncio.Event()
        running = asyncio.create_task(Worker(far.store, far.connector, far.keys, "far").run(stop))
        try:
            await some_are_stored(world)
            wire.freeze()
            await asyncio.sleep(0.5)
            stop.set()
            await until(running.done, "the worker has ended, and the database is still frozen")
        finally:
            wire.thaw()
        await running
        async with world.worker():
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)


async def test_a_fill_whose_connections_fall_silent_goes_on_over_new_ones(
    world: World, vendor: StubVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "STATEMENT_SECONDS", 3.0)
    await world.stored(CHUNKS)
    async with far_away(world) as (wire, far):
        world.cluster.apply("memory", provider(vendor))
        async with far.worker(commit_seconds=3.0):
            await some_are_stored(world)
            wire.swallow_what_is_open()
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
