"""kopf that lost a stream and does not end is left behind, so that another run of it may hear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fixtures.waiting import ends, until
from memory_operator.kube.kopf_thread import run_unless_deaf


@asynccontextmanager
async def tasks(*names: str) -> AsyncIterator[list[asyncio.Task[bool]]]:
    """Tasks that wait for ever."""
    made = [asyncio.create_task(asyncio.Event().wait(), name=name) for name in names]
    try:
        yield made
    finally:
        for task in made:
            task.cancel()
        await asyncio.wait(made)


async def hang() -> None:
    await asyncio.Event().wait()


async def test_it_is_left_behind_once_a_stream_was_missing_for_long() -> None:
    left = asyncio.Event()
    async with tasks("watcher for providers@a", "watcher for providers@b") as (first, _):
        operator = asyncio.create_task(hang())
        running = asyncio.create_task(run_unless_deaf(operator, 2, left.set, seconds=0.05))
        await asyncio.sleep(0.2)
        assert not left.is_set(), "both are there"
        first.cancel()
        await ends(left.wait(), "it is left behind")
        running.cancel()
        operator.cancel()
        await asyncio.wait([running, operator])


async def test_a_stream_that_is_left_is_cancelled_once_more_so_that_kopf_may_end_by_itself() -> None:
    left, second = asyncio.Event(), asyncio.Event()

    async def swallows_the_first() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        second.set()
        await asyncio.Event().wait()

    stream = asyncio.create_task(swallows_the_first(), name="watcher for providers@a")
    async with tasks("watcher for providers@b") as (other,):
        operator = asyncio.create_task(ends(asyncio.wait([stream]), "the end of the stream"))
        running = asyncio.create_task(run_unless_deaf(operator, 2, left.set, seconds=0.5))
        await asyncio.sleep(0.2)
        other.cancel()
        stream.cancel()
        await ends(second.wait(), "the first cancellation is swallowed")
        await ends(running, "the end of kopf")
    assert not left.is_set()


async def test_streams_that_were_never_seen_are_not_missed() -> None:
    left = asyncio.Event()
    operator = asyncio.create_task(asyncio.sleep(0.3))
    await ends(run_unless_deaf(operator, 2, left.set, seconds=0.05), "the end of kopf")
    assert not left.is_set()


async def test_what_ended_it_is_raised() -> None:
    async def fails() -> None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"):
        await run_unless_deaf(asyncio.create_task(fails()), 1, lambda: None)


async def test_when_it_is_cancelled_kopf_ends_too() -> None:
    operator = asyncio.create_task(hang())
    running = asyncio.create_task(run_unless_deaf(operator, 1, lambda: None))
    await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    operator.cancel()
    await until(operator.done, "kopf has ended")
