"""Work that arrives together is done together, and apart where that fails.

What comes first begins at once. What comes while some is under way waits for the end of that, for as many as fit, or
for WAIT_SECONDS, whichever is first. Where the last time took long, or failed, each begins at once by itself again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import LRUCache

WAIT_SECONDS = 0.01
SLOW_SECONDS = 1.0
"""What took longer is not shared the next time: nobody waits for it together with others."""

_APART_KEPT = 4_096

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Work(Generic[ItemT, ResultT]):
    """What is done with items that arrived together."""

    name: str
    do: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]]
    """All of them, or none; the results are in their order. It raises where one may be in the way of the others."""
    apart: Callable[[Exception], bool]
    """Whether that is so: then they are tried in parts; otherwise the error is that of each of them."""
    parts: int | None
    """In how many parts; None: each by itself."""


@dataclass(eq=False, slots=True)
class _Place(Generic[ItemT, ResultT]):
    """One item, and the result that somebody waits for."""

    item: ItemT
    size: int
    result: asyncio.Future[ResultT]


@dataclass(eq=False, slots=True)
class _Line(Generic[ItemT, ResultT]):
    """What waits and what is under way under one key."""

    most: int
    waiting: deque[_Place[ItemT, ResultT]] = field(default_factory=deque)
    under_way: dict[asyncio.Task[None], list[_Place[ItemT, ResultT]]] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None

    def first(self, *, alone: bool) -> list[_Place[ItemT, ResultT]]:
        """Take out what is done together next."""
        batch = [self.waiting.popleft()]
        size = batch[0].size
        while not alone and self.waiting and size + self.waiting[0].size <= self.most:
            batch.append(self.waiting.popleft())
            size += batch[-1].size
        return batch


class Sharing(Generic[ItemT, ResultT]):
    """Does work for several at once. One for each event loop.

    A batch is a task that belongs to those who wait for it: it ends by itself, or with the last of them who leaves.
    """

    def __init__(self, work: Work[ItemT, ResultT]) -> None:
        self._work = work
        self._lines: dict[Hashable, _Line[ItemT, ResultT]] = {}
        self._alone: LRUCache[Hashable, bool] = LRUCache(_APART_KEPT)

    async def do(self, key: Hashable, item: ItemT, size: int, most: int) -> ResultT:
        """The result for an item, which is done together with others of its key, of `most` in size.

        Raises what the work raises.
        """
        line = self._lines.setdefault(key, _Line(most))
        place: _Place[ItemT, ResultT] = _Place(item, size, asyncio.get_running_loop().create_future())
        line.waiting.append(place)
        self._advance(key, line)
        try:
            return await place.result
        except asyncio.CancelledError:
            await self._leave(line, place)
            raise

    async def _leave(self, line: _Line[ItemT, ResultT], place: _Place[ItemT, ResultT]) -> None:
        """Forget one who no longer waits; a batch that nobody waits for is ended."""
        for task, places in list(line.under_way.items()):
            if place in places and all(each.result.done() for each in places):
                if not task.cancelling():  # a second time would cut off what it does at its end
                    task.cancel()
                await asyncio.wait([task])

    def _advance(self, key: Hashable, line: _Line[ItemT, ResultT], *, late: bool = False) -> None:
        """Begin what need not wait any more."""
        alone = key in self._alone
        line.waiting = deque(place for place in line.waiting if not place.result.done())
        while line.waiting and (
            late or alone or not line.under_way or sum(place.size for place in line.waiting) >= line.most
        ):
            batch = line.first(alone=alone)
            task = asyncio.create_task(self._one_batch(key, line, batch), name=self._work.name)
            line.under_way[task] = batch
        if line.timer is not None and (late or not line.waiting):
            line.timer.cancel()
            line.timer = None
        if line.waiting and line.timer is None:
            line.timer = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._waited, key, line)
        if not line.waiting and not line.under_way:
            self._lines.pop(key, None)

    def _waited(self, key: Hashable, line: _Line[ItemT, ResultT]) -> None:
        self._advance(key, line, late=True)

    async def _one_batch(
        self, key: Hashable, line: _Line[ItemT, ResultT], batch: Sequence[_Place[ItemT, ResultT]]
    ) -> None:
        started = asyncio.get_running_loop().time()
        try:
            whole = await self._together(batch)
            if whole and asyncio.get_running_loop().time() - started < SLOW_SECONDS:
                self._alone.pop(key, None)
            else:
                self._alone[key] = True
        finally:
            for place in batch:
                place.result.cancel()  # of those that have none, as this was cancelled
            for task in [task for task, places in line.under_way.items() if places is batch]:
                del line.under_way[task]
            self._advance(key, line)

    async def _together(self, batch: Sequence[_Place[ItemT, ResultT]]) -> bool:
        """Do a batch, in parts where that fails; whether it did not."""
        there = [place for place in batch if not place.result.done()]
        if not there:
            return True
        try:
            results = await self._work.do([place.item for place in there])
        except Exception as error:  # noqa: BLE001 - whoever waits for a result gets it
            if len(there) > 1 and self._work.apart(error):
                size = 1 if self._work.parts is None else -(-len(there) // self._work.parts)
                parts = [there[start : start + size] for start in range(0, len(there), size)]
                await asyncio.gather(*(self._together(part) for part in parts))
            else:
                for place in there:
                    if not place.result.done():
                        place.result.set_exception(error)
            return False
        for place, result in zip(there, results, strict=True):
            if not place.result.done():
                place.result.set_result(result)
        return True
