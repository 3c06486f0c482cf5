"""Time limits: what they count."""

from __future__ import annotations

import asyncio
import time

import pytest

from memory_operator.backoff import timeout_without_lag


async def test_a_loop_that_others_keep_busy_takes_nothing_off_a_limit() -> None:
    busy = True

    async def keep_busy() -> None:
        while busy:
            time.sleep(0.1)  # noqa: ASYNC251  what blocks the loop is the point
            await asyncio.sleep(0)

    others = asyncio.create_task(keep_busy())
    async with timeout_without_lag(0.2):
        for _ in range(5):  # half a second, none of it spent on waiting
            await asyncio.sleep(0)
    busy = False
    await others


async def test_who_waits_for_something_that_never_comes_is_told_so() -> None:
    with pytest.raises(TimeoutError):
        async with timeout_without_lag(0.05):
            await asyncio.Event().wait()
