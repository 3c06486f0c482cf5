"""How good one ranking is: nDCG, recall, reciprocal rank and average precision, as trec_eval defines them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

NDCG = "nDCG@10"
_NDCG_DEPTH = 10


def names(k: int) -> tuple[str, ...]:
    """The measures of rankings of at most `k`, in the notation of ir-measures."""
    return (NDCG, f"R@{k}", f"RR@{k}", f"AP@{k}")


def measured(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> dict[str, float]:
    """The measures of one ranking, best first and without repeats; `grades` are of all judged documents.

    A grade above 0 is an answer; the gain of nDCG is the grade itself. Without answers all measures are 0.
    """
    top = ranking[:k]
    answers = {document for document, grade in grades.items() if grade > 0}
    ranks = [rank for rank, document in enumerate(top, 1) if document in answers]
    ideal = _gain(sorted((grades[document] for document in answers), reverse=True))
    values = (
        _gain([max(0, grades.get(document, 0)) for document in ranking]) / ideal if ideal else 0.0,
        len(ranks) / len(answers) if answers else 0.0,
        1 / ranks[0] if ranks else 0.0,
        sum(found / rank for found, rank in enumerate(ranks, 1)) / len(answers) if answers else 0.0,
    )
    return dict(zip(names(k), values, strict=True))


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades[:_NDCG_DEPTH], 1))
