"""Which requests are worked on at the same time: a bounded number, of which nobody has more than a share."""

from __future__ import annotations

import asyncio
from collections import Counter

from memory_operator.http.problems import Problem

QUEUE_SECONDS = 2.0
"""How long a request waits for a slot."""
CALLER_SHARE = 0.5
"""Of all slots, for one caller at most."""


class Slots:
    """Slots for requests. A slot that gets free goes to the waiting caller who has the fewest."""

    def __init__(self, total: int, *, queue_seconds: float = QUEUE_SECONDS) -> None:
        self._free = total
        self._share = max(1, int(total * CALLER_SHARE))
        self._queue_seconds = queue_seconds
        self._taken: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    async def take(self, caller: str) -> None:
        """Take a slot, which the caller gives back. Raises Problem (503, busy)."""
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((caller, granted))
        self._grant()
        try:
            async with asyncio.timeout(self._queue_seconds):
                await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled():
                self.give_back(caller)
            self._waiting = [each for each in self._waiting if each[1] is not granted]
            if isinstance(error, TimeoutError):
                raise Problem(503, "busy", "too many requests are being answered") from None
            raise

    def give_back(self, caller: str) -> None:
        """Let the next request have a slot."""
        self._free += 1
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]
        self._grant()

    def _grant(self) -> None:
        while self._free:
            able = [each for each in self._waiting if self._taken[each[0]] < self._share and not each[1].done()]
            if not able:
                return
            following = min(able, key=lambda each: self._taken[each[0]])  # of equals the one that waits longest
            self._waiting.remove(following)
            caller, granted = following
            self._free -= 1
            self._taken[caller] += 1
            granted.set_result(None)
