"""Waiting: how long to pause after failures in a row, and how to wait for events that may not come."""

from __future__ import annotations

import asyncio
import random

_MOST_DOUBLINGS = 16


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
