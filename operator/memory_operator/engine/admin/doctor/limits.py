"""Waiting for a check no longer than it may take, whatever it waits for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from memory_operator.errors import StoreUnavailable

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T], name: str) -> T:
    """The result of some work. Raises StoreUnavailable once it has taken so long.

    The work is cancelled then and not waited for: to give a connection back takes as long as its server is silent.
    """
    task = asyncio.create_task(work, name=name)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
        task.add_done_callback(_take_note)
    if not done:
        raise StoreUnavailable(f"no answer within {seconds:g} s")
    return task.result()


def _take_note(task: asyncio.Task[Any]) -> None:
    """Look at how it ended: nobody else does."""
    if not task.cancelled():
        task.exception()
