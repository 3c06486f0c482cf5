"""How good a ranking is, as the judges of TREC count it, and whether a difference is more than chance."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence

RESAMPLES = 1_000
"""Of the bootstrap."""


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int = 10) -> float:
    """Normalised discounted cumulative gain: the grade is the gain, the logarithm of the rank its discount."""
    best = _discounted(sorted(grades.values(), reverse=True)[:depth])
    return _discounted([grades.get(document, 0) for document in ranking[:depth]]) / best if best else 0.0


def recall(ranking: Sequence[str], grades: Mapping[str, int], depth: int = 10) -> float:
    """Share of the relevant documents that are among the first ones."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant & set(ranking[:depth])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """One divided by the rank of the first relevant document; 0 where there is none."""
    return next((1 / rank for rank, found in enumerate(ranking, start=1) if grades.get(found, 0) > 0), 0.0)


def interval(differences: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """Where the mean lies in 95 of 100 resamples of the questions."""
    choose = random.Random(seed)
    means = sorted(statistics.fmean(choose.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    return means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
