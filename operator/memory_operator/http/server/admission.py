"""Which requests are worked on at the same time: a bounded number, of which nobody has more than a share."""

from __future__ import annotations

import asyncio

from memory_operator.http.problems import Problem
from memory_operator.store.db.pool import CALLER, TENANT
from memory_operator.turns import TURN, Turn, Turns, few

QUEUE_SECONDS = 2.0
"""How long a request waits for a slot."""
CALLER_SHARE = 0.5
"""Of all slots, for one caller at most."""


class Slots:
    """Slots for requests. A slot that gets free goes to the waiting caller who has the fewest."""

    def __init__(self, total: int, *, queue_seconds: float = QUEUE_SECONDS, work: Turns | None = None) -> None:
        """`work`: the turns in which requests with a slot are worked on."""
        self._turns = Turns(total, most=max(1, int(total * CALLER_SHARE)))
        self._work = work or Turns(total, at_work_beside=few(total))
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

    async def begin(self, tenant: str, caller: str) -> Turn:
        """Wait until a request may be worked on, which is ended. Who calls this sets a limit."""
        return await self._work.take(tenant, caller)

    def end(self, turn: Turn) -> None:
        """Let the next request be worked on."""
        self._work.give_back(turn)


class Admission:
    """One request: it gets a slot once it is whole, and is worked on once it is known whose it is."""

    def __init__(self, slots: Slots, caller: str) -> None:
        self._slots = slots
        self._caller = caller
        self._tenant = ""
        self._slot: Turn | None = None
        self._turn: Turn | None = None
        CALLER.set(caller)
        TENANT.set("")
        TURN.set(None)

    @property
    def has_slot(self) -> bool:
        """Whether it is worked on, or waits for nothing but that."""
        return self._slot is not None

    async def whole(self) -> None:
        """Get a slot. Raises Problem."""
        self._slot = await self._slots.take(self._caller)

    async def identified(self, tenant: str) -> None:
        """Be told whose it is."""
        self._tenant = tenant
        TENANT.set(tenant)
        if self.has_slot:
            await self.begin()

    async def begin(self) -> None:
        """Wait for its turn, where it is known whose it is; all others are refused soon."""
        if self._tenant and self._turn is None:
            self._turn = await self._slots.begin(self._tenant, self._caller)
            TURN.set(self._turn)

    def end(self) -> None:
        """Let others have what it has."""
        if self._turn is not None:
            self._slots.end(self._turn)
        if self._slot is not None:
            self._slots.give_back(self._slot)
