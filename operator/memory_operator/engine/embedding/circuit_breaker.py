"""A circuit breaker for each vendor: after failures in a row nobody waits for it any more, until a trial succeeds."""

from __future__ import annotations

from collections.abc import Callable

from memory_operator.backoff import backoff
from memory_operator.errors import EmbedderUnreachable, MemoryOperatorError

OPENS_AFTER = 5
"""Failures in a row."""
FIRST_REST_SECONDS = 0.5
LAST_REST_SECONDS = 4.0
"""A vendor that is back is noticed within this."""


class CircuitOpen(EmbedderUnreachable):
    """The vendor has failed so often that calls rest for a moment."""


class Breaker:
    """Failures and successes of the calls to one vendor, from one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._until: float | None = None
        self._trial_until = 0.0
        self._last = ""
        self.has_answered = False
        """Whether any call ever was."""

    @property
    def is_open(self) -> bool:
        """Whether calls rest, but for a trial now and then."""
        return self._until is not None

    @property
    def closed_in(self) -> float:
        """Seconds until a call may be tried; 0 when one may now."""
        if self._until is None:
            return 0.0
        return max(0.0, self._until - self._clock(), self._trial_until - self._clock())

    def refusal(self) -> CircuitOpen | None:
        """Why no call may be tried now; None when one may."""
        wait = self.closed_in
        return CircuitOpen(self.text(), hint="it is tried again by itself", retry_after=wait) if wait > 0 else None

    def admit(self, seconds: float) -> None:
        """Let a call through, which takes at most `seconds`; while open, one at a time. Raises CircuitOpen."""
        if self._until is None:
            return
        if refusal := self.refusal():
            raise refusal
        self._trial_until = self._clock() + seconds

    def text(self) -> str:
        """What a condition says."""
        # Without a count: a text that changes is a status that is published.
        return f"the circuit is open after failures in a row, calls rest but for a trial now and then: {self._last}"

    def not_tried(self) -> None:
        """A call that was let through ended without telling anything about the vendor: the next may try."""
        self._trial_until = 0.0

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures, self._until, self._trial_until = 0, None, 0.0
        self.has_answered = True

    def failed(self, error: MemoryOperatorError) -> None:
        """A call brought no whole answer, or a 5xx."""
        self._failures += 1
        self._last = error.message
        self._trial_until = 0.0
        if self._failures >= OPENS_AFTER:
            rest = backoff(self._failures - OPENS_AFTER + 1, FIRST_REST_SECONDS, LAST_REST_SECONDS)
            self._until = self._clock() + rest
