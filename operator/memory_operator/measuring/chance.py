"""What may be chance: bootstrap intervals of means, and paired comparisons of two ways on the same questions."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ROUNDS = 1_000
LIKELY_CHANCE = 0.05
"""A difference is more than chance where one as large comes up more rarely than this without any cause."""

Verdict = Literal["better", "worse", "no more than chance"]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean of the differences, question by question, and how often chance alone makes one as large."""

    difference: Mean
    p: float

    @property
    def verdict(self) -> Verdict:
        """What it says of the first of the two ways."""
        if self.p >= LIKELY_CHANCE:
            return "no more than chance"
        return "better" if self.difference.mean > 0 else "worse"


def mean_of(values: Sequence[float], seed: int) -> Mean:
    """The mean of the questions' values, with the percentiles of means of questions drawn with replacement."""
    rng, count = random.Random(seed), len(values)
    means = sorted(sum(rng.choices(values, k=count)) / count for _ in range(ROUNDS))
    tail = ROUNDS // 40
    return Mean(sum(values) / count, means[tail], means[-tail - 1])


def compared(one: Sequence[float], other: Sequence[float], seed: int) -> Comparison:
    """Compare two ways on the same questions, by turning the signs of their differences at random."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    telling = [difference for difference in differences if difference]
    rng, total = random.Random(seed), sum(telling)
    as_large = 0
    for _ in range(ROUNDS):
        turned = sum(itertools.compress(telling, rng.choices((0, 1), k=len(telling))))
        as_large += abs(total - 2 * turned) >= abs(total) - 1e-12
    return Comparison(mean_of(differences, seed), (as_large + 1) / (ROUNDS + 1))
