"""Waiting: how long to pause after failures in a row, for events that may not come, and for a turn among others."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
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


class Turns:
    """Places of which there are few. One that gets free goes to the waiting caller who has the fewest."""

    def __init__(self, places: int, most_each: int | None = None) -> None:
        """No caller has more than `most_each`."""
        self._free = places
        self._most_each = places if most_each is None else most_each
        self._taken: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    async def take(self, caller: str) -> None:
        """Wait for a place, which the caller gives back. Who calls this sets a limit."""
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((caller, granted))
        self._grant()
        try:
            await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                self.give_back(caller)
            self._waiting = [each for each in self._waiting if each[1] is not granted]
            raise

    def give_back(self, caller: str) -> None:
        """Let the next have a place."""
        self._free += 1
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]
        self._grant()

    def _grant(self) -> None:
        while self._free:
            able = [each for each in self._waiting if self._taken[each[0]] < self._most_each and not each[1].done()]
            if not able:
                return
            following = min(able, key=lambda each: self._taken[each[0]])  # of equals the one that waits longest
            self._waiting.remove(following)
            caller, granted = following
            self._free -= 1
            self._taken[caller] += 1
            granted.set_result(None)
