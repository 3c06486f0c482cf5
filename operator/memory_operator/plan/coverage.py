"""How much of a store a space covers."""

from __future__ import annotations

ENOUGH_COVERAGE = 0.99
"""Below this share a space is activated only by force, and is no way out for another."""


def coverage(vectors: int, live: int, quarantined: int) -> float:
    """Live chunks with a vector ÷ (live − quarantined): 0…1, and 1 when there are none to cover."""
    wanted = live - quarantined
    return 1.0 if wanted <= 0 else max(0.0, min(1.0, vectors / wanted))


def shown(share: float) -> float:
    """Coverage in four digits, for people; 1 is complete and nothing else, so it is never rounded up to."""
    return min(round(share, 4), 0.9999) if share < 1 else 1.0
