"""Looking at a server again and again until something has happened or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from memory_operator.client.errors import RefusedError, UnreachableError

POLL_SECONDS = 1.0
ABSENCE_SECONDS = 60.0
"""How long a server that is being restarted may be away."""

_AWAY = (502, 503, 504)

T = TypeVar("T")


class Polling:
    """Looks about once a second, and bears with a server that is away for a moment."""

    def __init__(self, limit_seconds: float) -> None:
        self._ends_at = time.monotonic() + limit_seconds
        self._answered_at = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._ends_at

    def look(self, once: Callable[[], T]) -> T | None:
        """What one look sees; None while the server is away. Raises CommandError."""
        try:
            seen = once()
        except (UnreachableError, RefusedError) as failure:
            passing = isinstance(failure, UnreachableError) or failure.status in _AWAY
            if not passing or time.monotonic() - self._answered_at > ABSENCE_SECONDS or self.is_over:
                raise
            return None
        self._answered_at = time.monotonic()
        return seen

    def sleep(self) -> None:
        """Wait until the next look, or until the time is up."""
        time.sleep(max(0.0, min(POLL_SECONDS, self._ends_at - time.monotonic())))
