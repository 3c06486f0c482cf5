"""Reciprocal rank fusion of several channels: by rank, since their scores cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

RANK_CONSTANT = 60
"""How slowly a rank loses weight; 60 is the value that reciprocal rank fusion was published with."""


@dataclass(frozen=True, slots=True)
class Fused:
    """One item of the fused ranking."""

    key: int
    score: float
    """Sum of the contributions. Only the order matters; the maximum for n channels is n ÷ 61."""
    ranks: dict[str, int] = field(default_factory=dict)
    """Rank in each channel that found it, from 1."""
    contributions: dict[str, float] = field(default_factory=dict)
    """Share of the score by channel: 1 ÷ (60 + rank)."""


def fuse(channels: Mapping[str, Sequence[int]]) -> list[Fused]:
    """Reciprocal rank fusion of rankings, each best first and without duplicates; best first.

    Ties go to the item with the better single rank, then to the one that the earlier channel found, then to the
    higher key: the order never depends on chance.
    """
    ranks: dict[int, dict[str, int]] = {}
    for channel, keys in channels.items():
        for rank, key in enumerate(keys, start=1):
            ranks.setdefault(key, {})[channel] = rank
    order = {channel: number for number, channel in enumerate(channels)}
    fused = []
    for key, found in ranks.items():
        shares = {channel: 1 / (RANK_CONSTANT + rank) for channel, rank in found.items()}
        fused.append(Fused(key, sum(shares.values()), found, shares))
    fused.sort(key=lambda f: (-f.score, min(f.ranks.values()), min(order[c] for c in f.ranks), -f.key))
    return fused
