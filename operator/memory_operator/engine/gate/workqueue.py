"""A queue of Provider names: each at most once, what changed first, one reconcile per name at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain

from memory_operator.backoff import backoff, jittered
from memory_operator.contract.resource import ProviderRef
from memory_operator.errors import Retryable
from memory_operator.logs import get_logger

log = get_logger(__name__)

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 10.0

Handler = Callable[[ProviderRef], Awaitable[float | None]]
"""Reconciles one Provider; returns after how many seconds it wants to be called again, or None."""


class ReconcileQueue:
    """Collects names from any number of triggers; a name that comes while it is at work is done once more."""

    def __init__(self) -> None:
        self._waiting: dict[ProviderRef, None] = {}
        self._idle: dict[ProviderRef, None] = {}
        """Those that nothing is known to have changed of: they come after all others."""
        self._at_work: set[ProviderRef] = set()
        self._timers: dict[ProviderRef, asyncio.TimerHandle] = {}
        self._failures: dict[ProviderRef, int] = {}
        self._changed = asyncio.Event()

    def enqueue(self, ref: ProviderRef, *, first: bool = False, idle: bool = False) -> None:
        """Ask for a reconcile, before all others, in its turn, or once no other is asked for. Never blocks."""
        timer = self._timers.pop(ref, None)
        if timer:
            timer.cancel()
        if first:
            self._waiting = {ref: None, **self._waiting}
        elif not idle:
            self._waiting.setdefault(ref)
        elif ref not in self._waiting:
            self._idle.setdefault(ref)
        self._changed.set()

    def later(self, ref: ProviderRef, seconds: float) -> None:
        """Ask for a reconcile after a while, unless one is asked for before."""
        if ref not in self._waiting and ref not in self._idle and ref not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[ref] = loop.call_later(seconds, lambda: self.enqueue(ref, idle=True))

    async def work(self, handle: Handler) -> None:
        """Reconcile names as they come, until cancelled. Several of these share one queue."""
        try:
            while True:
                ref = await self._take()
                try:
                    await self._handle(ref, handle)
                finally:
                    self._at_work.discard(ref)
                    self._changed.set()
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _take(self) -> ProviderRef:
        while True:
            for ref in chain(self._waiting, self._idle):
                if ref not in self._at_work:
                    self._waiting.pop(ref, None)
                    self._idle.pop(ref, None)
                    self._at_work.add(ref)
                    return ref
            self._changed.clear()
            await self._changed.wait()

    async def _handle(self, ref: ProviderRef, handle: Handler) -> None:
        """One reconcile. An unknown exception stays unknown, is logged whole, and is tried again."""
        try:
            wanted = await handle(ref)
        except Retryable as error:
            log.warning("reconcile of %s is tried again: %s", ref, error, extra={"provider": str(ref)})
            self.later(ref, self._pause(ref))
        except Exception:
            log.exception("reconcile of %s failed", ref, extra={"provider": str(ref)})
            self.later(ref, self._pause(ref))
        else:
            self._failures.pop(ref, None)
            if wanted is not None:
                self.later(ref, jittered(wanted))

    def _pause(self, ref: ProviderRef) -> float:
        """Seconds until the next try, doubling with each failure in a row."""
        failures = self._failures[ref] = self._failures.get(ref, 0) + 1
        return backoff(failures, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
