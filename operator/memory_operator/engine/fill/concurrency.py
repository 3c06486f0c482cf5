"""How many calls to a vendor may be in flight: found by trying, beginning with one."""

from __future__ import annotations

from collections.abc import Callable

MOST_CALLS = 64
"""More calls in flight than this bring nothing that any vendor gives."""
MOST_REST_SECONDS = 60.0
"""A vendor that asks for a longer pause is asked again after this."""

_WORTH = 0.25
"""A step up stays where the rate grew by this part of what the step could have brought at best."""
_FIRST_PATIENCE = 4
_LAST_PATIENCE = 64


class ConcurrencyLimit:
    """The calls in flight to one vendor, from one process.

    The limit doubles as long as that pays, then grows by one now and then where that pays; it is halved when the
    vendor is overloaded. A round is as many calls as the limit allows at a time; a step up that brought no higher
    rate is taken back, and the next one waits twice as long: behind what limits us, calls would only queue.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limit = 1
        self._in_flight = 0
        self._full = False
        self._doubling = True
        self._rest_until = 0.0
        self._patience = _FIRST_PATIENCE
        self._wait_rounds = 0
        self._before: tuple[int, float] | None = None
        """Limit and rate before the last step up."""
        self._doubted = False
        self._forgive_at = 0.0
        self._begin_round()

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """Calls that are."""
        return self._in_flight

    @property
    def rests_for(self) -> float:
        """Seconds until a call may leave again; 0 when one may now, as far as time is concerned."""
        return max(0.0, self._rest_until - self._clock())

    def has_place(self, most: int | None) -> bool:
        """Whether a call may leave now; `most` bounds the calls in flight whatever limit was found."""
        return self.rests_for == 0 and self._in_flight < min(self._limit, most or MOST_CALLS, MOST_CALLS)

    def enter(self) -> None:
        """A call leaves. Each is followed by one `leave`."""
        self._in_flight += 1
        self._full = self._full or self._in_flight >= self._limit

    def leave(self) -> None:
        """A call has ended, whichever way."""
        self._in_flight -= 1

    def rest(self, seconds: float) -> None:
        """Let no call leave for so long."""
        self._rest_until = max(self._rest_until, self._clock() + min(seconds, MOST_REST_SECONDS))

    def answered(self, texts: int) -> None:
        """A call brought vectors for so many texts."""
        self._round_texts += texts
        self._round_calls += 1
        if self._round_calls >= self._limit:
            self._end_round()

    def overloaded(self, retry_after: float | None) -> None:
        """The vendor asks us to slow down, for so many seconds where it says so."""
        if self._clock() >= self._forgive_at:  # the calls that were in flight with it say nothing new
            self._limit = max(1, self._limit // 2)
            self._doubling = False
            self._patience, self._wait_rounds, self._before = _FIRST_PATIENCE, _FIRST_PATIENCE, None
            self._doubted = False
            self._forgive_at = self._clock() + 0.25
        if retry_after is not None:
            self.rest(retry_after)
        self._begin_round()

    def _begin_round(self) -> None:
        self._round_started = self._clock()
        self._round_texts = self._round_calls = 0
        self._full = False

    def _end_round(self) -> None:
        passed = self._clock() - self._round_started
        rate = self._round_texts / passed if passed > 0 else 0.0
        full = self._full
        self._begin_round()
        if not full:
            return  # we had no more to send: nothing is learned
        if self._before is not None:
            limit, old_rate = self._before
            self._before = None
            if rate < old_rate * (1 + _WORTH * (self._limit / limit - 1)):
                if not self._doubted:  # one slow call is no proof
                    self._doubted, self._before = True, (limit, old_rate)
                    return
                self._doubted, self._limit = False, limit
                self._doubling = False
                self._wait_rounds = self._patience
                self._patience = min(_LAST_PATIENCE, self._patience * 2)
                return
            self._doubted, self._patience = False, _FIRST_PATIENCE
        if self._wait_rounds:
            self._wait_rounds -= 1
            return
        self._before = (self._limit, rate)
        self._limit = min(MOST_CALLS, self._limit * 2 if self._doubling else self._limit + 1)
        if self._before[0] == self._limit:
            self._before = None
