"""How many rows one commit stores: as many as take a moment, since one that is cut off has stored nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from memory_operator.errors import LockBusy, StoreUnavailable

MOST_ROWS = 2_048
_GOAL = 6
"""A commit is to take at most this part of the time that it is cut off after."""


class CommitSize:
    """Follows the time that commits take: a live index may take a hundred times as long for a row as none."""

    def __init__(self, cut_off_seconds: float) -> None:
        self._cut_off = cut_off_seconds
        self.rows = MOST_ROWS
        """Most rows of the next commit."""

    @contextmanager
    def measured(self, rows: int) -> Iterator[None]:
        """Measure a commit of so many rows; the next ones are smaller where it took long, or was cut off."""
        began = time.monotonic()
        try:
            yield
        except (StoreUnavailable, LockBusy):
            if time.monotonic() - began > self._cut_off / 2:
                self._follow(rows, 0.5)
            raise
        goal, took = self._cut_off / _GOAL, time.monotonic() - began
        if took > goal:
            self._follow(rows, goal / took)
        elif took < goal / 2:
            self.rows = min(MOST_ROWS, max(self.rows, 2 * min(rows, self.rows)))

    def _follow(self, rows: int, share: float) -> None:
        self.rows = max(1, int(min(self.rows, max(1, rows)) * share))
