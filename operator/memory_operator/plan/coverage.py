"""How much of a store a space covers."""

from __future__ import annotations


def coverage(vectors: int, live: int, quarantined: int) -> float:
    """Live chunks with a vector ÷ (live − quarantined): 0…1, and 1 when there are none to cover."""
    wanted = live - quarantined
    return 1.0 if wanted <= 0 else max(0.0, min(1.0, vectors / wanted))
