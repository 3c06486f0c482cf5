"""Places of which there are few, which callers have in turns."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

BESIDE_SECONDS = 1.0
"""Who had a place, or waited for one, so lately still counts as there."""
AT_WORK_SECONDS = 0.1
"""Who has a place for longer waits for something: another request of their caller need not wait for that."""
VENDOR_SECONDS = 0.01
"""The same of a vendor: a query looks for words meanwhile, which takes about so long."""

Who = tuple[str, ...]
"""A caller, behind the group that they belong to where there is one. A group without a name is nobody's neighbour."""


def few(places: int) -> int:
    """How many of some places one group uses at a time beside others: half as many as there are cores, or places.

    What is at work on one machine waits for a core; more at a time make nothing faster, and whoever comes wait longer.
    """
    return max(1, min(places, os.cpu_count() or 1) // 2)


class Turn:
    """A place that somebody has, who is at work or waits for something."""

    def __init__(self, who: Who, note: Callable[[str, int], None], seconds: float) -> None:
        """`note` is told of one more of a group, or one less, at work; each is for so many seconds at most."""
        self.who = who
        self._note = note
        self._seconds = seconds
        self._at_work = self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def work(self) -> None:
        """Be at work from now on."""
        if self._ended:
            return
        self._rest_after(self._seconds)
        if not self._at_work:
            self._at_work = True
            self._note(self.who[0], 1)

    def wait(self, seconds: float) -> None:
        """Be no longer at work in so many seconds."""
        if self._at_work:
            self._rest_after(seconds)

    def end(self) -> None:
        """Never be at work again."""
        self._ended = True
        self._rest()

    def _rest_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._rest)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._at_work:
            self._at_work = False
            self._note(self.who[0], -1)


TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""Whose work this is, where somebody waits for it."""


@contextmanager
def aside() -> Iterator[None]:
    """Wait for a vendor: another request of the same caller may be worked on meanwhile."""
    turn = TURN.get()
    if turn is None:
        yield
        return
    turn.wait(VENDOR_SECONDS)
    try:
        yield
    finally:
        turn.work()


class _Neighbours:
    """The groups that are there."""

    def __init__(self) -> None:
        self._there: Counter[str] = Counter()
        self._left: OrderedDict[str, float] = OrderedDict()

    def come(self, group: str) -> None:
        """One of a group wants a place."""
        if group:
            self._there[group] += 1

    def leave(self, group: str, now: float) -> None:
        """One of a group gave their place back, or no longer waits for one."""
        self._forget(now)
        if group:
            _count(self._there, group, -1)
            self._left[group] = now
            self._left.move_to_end(group)

    def of(self, group: str, now: float) -> bool:
        """Whether others are there beside a group, or were lately."""
        self._forget(now)
        return bool(group) and any(len(those) > (group in those) for those in (self._there, self._left))

    def _forget(self, now: float) -> None:
        while self._left and next(iter(self._left.values())) < now - BESIDE_SECONDS:
            self._left.popitem(last=False)


class Turns:
    """A place that gets free goes to the group that has the fewest, in it to the caller who has the fewest, else to
    whoever had none for longest.
    """

    def __init__(
        self,
        places: int,
        *,
        most: int | None = None,
        at_work_beside: int | None = None,
        at_work_seconds: float = AT_WORK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """No caller has more than `most`. A group beside others gets no further one with `at_work_beside` at work."""
        self._free = places
        self._most = places if most is None else most
        self._at_work_beside = at_work_beside
        self._at_work_seconds = at_work_seconds
        self._clock = clock
        self._taken: Counter[Who] = Counter()
        self._at_work: Counter[str] = Counter()
        self._neighbours = _Neighbours()
        self._waiting: dict[Who, deque[asyncio.Future[Turn]]] = {}

    @asynccontextmanager
    async def working(self, *who: str) -> AsyncIterator[None]:
        """Work in a turn, which those who wait for vendors in it know. Who calls this sets a limit."""
        turn = await self.take(*who)
        before = TURN.set(turn)
        try:
            yield
        finally:
            TURN.reset(before)
            self.give_back(turn)

    async def take(self, *who: str) -> Turn:
        """Wait for a place, which is given back. Who calls this sets a limit."""
        self._neighbours.come(who[0])
        granted: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(granted)
        self._grant()
        try:
            return await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                self.give_back(granted.result())
            else:
                self._leave(who)
            raise

    def give_back(self, turn: Turn) -> None:
        """Let the next have a place."""
        turn.end()
        self._free += 1
        for part in _parts(turn.who):
            _count(self._taken, part, -1)
        self._leave(turn.who)

    def _leave(self, who: Who) -> None:
        self._neighbours.leave(who[0], self._clock())
        self._grant()

    def _grant(self) -> None:
        while self._free and (who := self._following()) is not None:
            waiting = self._waiting.pop(who)
            granted = waiting.popleft()
            if waiting:
                self._waiting[who] = waiting  # behind all others
            self._free -= 1
            self._taken.update(_parts(who))
            turn = Turn(who, self._note_at_work, self._at_work_seconds)
            if self._at_work_beside is not None:
                turn.work()
            granted.set_result(turn)

    def _note_at_work(self, group: str, more: int) -> None:
        _count(self._at_work, group, more)
        if more < 0:
            self._grant()

    def _following(self) -> Who | None:
        """Who has the next free place."""
        for who, waiting in list(self._waiting.items()):
            while waiting and waiting[0].done():  # cancelled
                waiting.popleft()
            if not waiting:
                del self._waiting[who]
        now = self._clock()
        able = [who for who in self._waiting if self._may_have_one(who, now)]
        return min(able, key=lambda who: [self._taken[part] for part in _parts(who)], default=None)

    def _may_have_one(self, who: Who, now: float) -> bool:
        if self._taken[who] >= self._most:
            return False
        most = self._at_work_beside
        return most is None or self._at_work[who[0]] < most or not self._neighbours.of(who[0], now)


def _parts(who: Who) -> list[Who]:
    """The group, and the caller in it."""
    return [who[: number + 1] for number in range(len(who))]


def _count(counter: Counter[K], key: K, more: int) -> None:
    """Count, and keep no zeros, of which there would be one for everybody who ever called."""
    counter[key] += more
    if not counter[key]:
        del counter[key]
