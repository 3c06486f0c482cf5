"""Times as PostgreSQL stores them: it knows years before 1 and after 9999, and infinity; Python's datetime does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""A day from what a datetime can say, so that each can be told in any time zone."""


def decoded(stored: tuple[int]) -> datetime:
    """A time in UTC from microseconds since 2000, as near as a datetime can say it in any zone."""
    try:
        return min(max(_EPOCH + timedelta(microseconds=stored[0]), _FIRST), _LAST)
    except OverflowError:
        return _LAST if stored[0] > 0 else _FIRST


def encoded(moment: datetime) -> tuple[int]:
    """Microseconds since 2000 of a time with a zone."""
    return ((moment - _EPOCH) // _MICROSECOND,)
