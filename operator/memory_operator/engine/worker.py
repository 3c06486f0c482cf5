"""The worker's loop: who does what, how it waits, how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from memory_operator.engine.complete import complete_walked, tend_indexes
from memory_operator.engine.fill import Filler
from memory_operator.errors import LockBusy, MemoryOperatorError, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store import jobs, locks, spaces
from memory_operator.store.listen import listen
from memory_operator.store.pool import Store

log = get_logger(__name__)

RUNNERS = 4
"""Ranges walked at a time; each has one call in flight."""

_IDLE_SECONDS = 1.0
_PRESENCE_SECONDS = 5.0
_LAST_BACKOFF_SECONDS = 5.0

Step = Callable[[], Awaitable[bool]]
"""Does one piece of work; False when there was none."""


class Worker:
    """Fills, feeds and indexes spaces until it is stopped. Any number may run, in any number of processes."""

    def __init__(self, store: Store, filler: Filler) -> None:
        self._store = store
        self._filler = filler
        self._wake = asyncio.Event()
        self._present = asyncio.Event()
        self._rests: dict[int, tuple[float, float]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. A range under way is given back; nothing is committed by halves."""
        steps: dict[str, Step] = {f"range runner {n}": self._filler.walk_one_range for n in range(RUNNERS)}
        steps |= {"feeder": self._feed, "completer": self._complete, "indexer": self._tend}
        async with asyncio.TaskGroup() as group:
            present = group.create_task(self._be_present(), name="presence")
            await self._wait_for_presence(stop)
            tasks = [present]
            tasks += [group.create_task(self._repeat(step), name=name) for name, step in steps.items()]
            tasks.append(group.create_task(self._listen(), name="work listener"))
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _be_present(self) -> None:
        """Hold the lock that says that this worker lives; take it again after the database was restarted."""
        while True:
            try:
                async with locks.presence(self._store, self._filler.presence) as conn:
                    self._present.set()
                    while True:
                        await asyncio.sleep(_PRESENCE_SECONDS)
                        await conn.execute("select 1", timeout=5)
            except StoreUnavailable as error:
                log.info("the worker shows its presence again soon: %s", error)
                await asyncio.sleep(_IDLE_SECONDS)

    async def _wait_for_presence(self, stop: asyncio.Event) -> None:
        """Claim nothing before others can see that this worker lives."""
        stopping = asyncio.ensure_future(stop.wait())
        present = asyncio.ensure_future(self._present.wait())
        try:
            await asyncio.wait([stopping, present], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            present.cancel()

    async def _listen(self) -> None:
        async with aclosing(listen(self._store, "memory-worker-listen", (jobs.CHANNEL,))) as heard:
            async for _ in heard:
                self._wake.set()

    async def _repeat(self, step: Step) -> None:
        """Repeat a step: at once while there is work, else when woken or after a second."""
        failures = 0
        while True:
            try:
                busy = await step()
                failures = 0
            except (StoreUnavailable, LockBusy) as error:
                failures += 1
                log.info("the worker waits: %s", error)
                busy = False
            except Exception:
                failures += 1
                log.exception("a step of the worker failed")
                busy = False
            if failures:
                await asyncio.sleep(min(_LAST_BACKOFF_SECONDS, 0.2 * 2 ** min(failures, 10)))
            elif not busy:
                await self._rest()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(0.02)  # let every waiter see it before it is cleared
        self._wake.clear()

    async def _feed(self) -> bool:
        """Embed one batch of pending chunks of each space that has some and whose embedder is not resting."""
        async with self._store.connection() as conn:
            live = {space.id: space for space in await spaces.all_spaces(conn) if space.state in ("filling", "ready")}
            hungry = await spaces.pending(conn, live)
        busy = False
        for space_id in hungry:
            until, pause = self._rests.get(space_id, (0.0, 0.25))
            if asyncio.get_running_loop().time() < until:
                continue
            try:
                busy = await self._filler.feed_one_batch(live[space_id]) or busy
                self._rests.pop(space_id, None)
            except (StoreUnavailable, LockBusy):
                raise
            except MemoryOperatorError as trouble:
                await self._filler.note_trouble(space_id, trouble)
                pause = min(_LAST_BACKOFF_SECONDS, pause * 2)
                self._rests[space_id] = (asyncio.get_running_loop().time() + pause, pause)
        return busy

    async def _complete(self) -> bool:
        await complete_walked(self._store)
        return False

    async def _tend(self) -> bool:
        await tend_indexes(self._store)
        return False
