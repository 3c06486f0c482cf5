"""A database that says nothing any more, and closes nothing either: a frozen server, a network that swallows all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest

from fixtures.engine import World, open_world
from fixtures.fills import complete, provider, some_are_stored, sound
from fixtures.waiting import until
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


class Wire:
    """A way to the database over loopback that can go silent without closing."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._passing = asyncio.Event()
        self._passing.set()
        self._generation = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.dsn = ""

    def freeze(self) -> None:
        """Let nothing through until `thaw`."""
        self._passing.clear()

    def thaw(self) -> None:
        """Let through what waited, and all that follows."""
        self._passing.set()

    def swallow_what_is_open(self) -> None:
        """Never let anything through again on the connections that are open now; new ones work."""
        self._generation += 1

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Wire]:
        """Serve until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        login = self._parts.netloc.rpartition("@")[0]
        self.dsn = urlunsplit(
            self._parts._replace(netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}")
        )
        self.dsn = self.dsn.split("?")[0]
        try:
            yield self
        finally:
            self.thaw()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = self._parts.hostname or parse_qs(self._parts.query)["host"][0]
        port = self._parts.port or int(parse_qs(self._parts.query).get("port", ["5432"])[0])
        if host.startswith("/"):
            answers, questions = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            answers, questions = await asyncio.open_connection(host, port)
        mine = self._generation
        for source, target in ((reader, questions), (answers, writer)):
            self._tasks.append(asyncio.create_task(self._pass_on(source, target, mine), name="wire"))

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, mine: int) -> None:
        try:
            while data := await source.read(65_536):
                await self._passing.wait()
                if mine == self._generation:
                    target.write(data)
                    await target.drain()
        except ConnectionError:
            return  # one side ended
        finally:
            target.close()


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
