"""Index builds of a worker: each a task of its own, a few at a time, so that nothing else waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from memory_operator.backoff import backoff
from memory_operator.errors import Retryable, SpaceVanished
from memory_operator.logs import get_logger

log = get_logger(__name__)

MOST_BUILDS = 4
"""Each takes the server's `maintenance_work_mem` and a processor, for hours where a space is large."""

_FIRST_BACKOFF_SECONDS = 0.4
_LAST_BACKOFF_SECONDS = 5.0


class IndexBuilds:
    """Builds that were begun and have not ended. A build that failed is begun again by whoever still wants it."""

    def __init__(self, group: asyncio.TaskGroup, ended: Callable[[], None]) -> None:
        """Builds are tasks of the group; `ended` is called after each."""
        self._group = group
        self._ended = ended
        self._running: dict[int, asyncio.Task[None]] = {}
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}

    def is_running(self, space_id: int) -> bool:
        """Whether a space's index is being built by this process."""
        return space_id in self._running

    def begin(self, space_id: int, build: Callable[[], Awaitable[None]]) -> None:
        """Begin a space's build, unless it runs, failed just now, or MOST_BUILDS do."""
        now = asyncio.get_running_loop().time()
        if space_id in self._running or len(self._running) >= MOST_BUILDS or self._not_before.get(space_id, 0) > now:
            return
        self._running[space_id] = self._group.create_task(self._run(space_id, build), name=f"index of space {space_id}")

    def cancel(self) -> None:
        """End all builds, as the worker stops: the server ends them too, and others begin them anew."""
        for task in self._running.values():
            task.cancel()

    async def _run(self, space_id: int, build: Callable[[], Awaitable[None]]) -> None:
        try:
            await build()
        except SpaceVanished:
            self._forget_failures(space_id)
        except Exception as error:
            failures = self._failures[space_id] = self._failures.get(space_id, 0) + 1
            pause = backoff(failures, _FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS)
            self._not_before[space_id] = asyncio.get_running_loop().time() + pause
            if isinstance(error, Retryable):
                log.info("index not built, retrying in %.1f s (space=%d): %s", pause, space_id, error)
            else:
                log.exception("index not built, retrying in %.1f s (space=%d)", pause, space_id)
        else:
            self._forget_failures(space_id)
        finally:
            del self._running[space_id]
            self._ended()

    def _forget_failures(self, space_id: int) -> None:
        self._failures.pop(space_id, None)
        self._not_before.pop(space_id, None)
