"""Waiting: how long to pause after failures in a row, and for events that may not come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_MOST_DOUBLINGS = 16
_LIMIT_STEPS = 50
"""As many turns of a busy event loop, at least, does something have that is waited for with a limit."""


def backoff(failures: int, first: float, last: float, jitter: float = 0.2) -> float:
    """Seconds to pause after so many failures in a row: `first`, doubled with each further one, up to `last`.

    `jitter` is the largest part by which the pause is longer or shorter, so that processes do not retry in step.
    """
    doublings = min(max(0, failures - 1), _MOST_DOUBLINGS)
    return jittered(min(last, first * 2.0**doublings), jitter)


def jittered(seconds: float, jitter: float = 0.2) -> float:
    """A pause that is longer or shorter by at most this part of it."""
    return seconds * random.uniform(1 - jitter, 1 + jitter)


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait until an event is set, for at most so many seconds; whether it is."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return event.is_set()


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of several events is set."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def timeout_without_lag(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` that does not count the time that the event loop was late by.

    Else a reply that arrived in time is thrown away because other tasks kept the loop busy. Raises TimeoutError.
    """
    loop = asyncio.get_running_loop()
    step = seconds / _LIMIT_STEPS
    timer = loop.call_later(step, lambda: wait(_LIMIT_STEPS - 1))

    def wait(steps: int) -> None:
        nonlocal timer
        if steps:
            timer = loop.call_later(step, wait, steps - 1)
        else:
            limit.reschedule(loop.time())

    try:
        async with asyncio.timeout(None) as limit:
            yield
    finally:
        timer.cancel()
