"""Which requests are worked on at the same time: a bounded number, of which nobody has more than a share."""

from __future__ import annotations

import asyncio

from memory_operator.http.problems import Problem
from memory_operator.turns import Turn, Turns

QUEUE_SECONDS = 2.0
"""How long a request waits for a slot."""
CALLER_SHARE = 0.5
"""Of all slots, for one caller at most."""


class Slots:
    """Slots for requests. A slot that gets free goes to the waiting caller who has the fewest."""

    def __init__(self, total: int, *, queue_seconds: float = QUEUE_SECONDS) -> None:
        self._turns = Turns(total, most=max(1, int(total * CALLER_SHARE)))
        self._queue_seconds = queue_seconds

    async def take(self, caller: str) -> Turn:
        """Take a slot, which is given back. Raises Problem (503, busy)."""
        try:
            async with asyncio.timeout(self._queue_seconds):
                return await self._turns.take(caller)
        except TimeoutError:
            raise Problem(503, "busy", "too many requests are being answered") from None

    def give_back(self, slot: Turn) -> None:
        """Let the next request have a slot."""
        self._turns.give_back(slot)
