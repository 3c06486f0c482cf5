"""Two ways of answering the same questions, side by side: how alike, how good, how fast."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memory_operator.measuring.chance import ROUNDS, Comparison, Mean, compared, mean_of
from memory_operator.measuring.measures import NDCG, measured

Way = Literal["fused", "semantic"]
WAYS: tuple[Way, Way] = ("fused", "semantic")

FEW_QUESTIONS = 50
"""Below which a difference that matters is seldom told from chance."""

PERSISTENCE = 0.9
"""Of rank-biased overlap: how much each place counts of what the one before it does."""


@dataclass(frozen=True, slots=True)
class SideResult:
    """What one side found for a question: names, best first."""

    fused: Sequence[str]
    semantic: Sequence[str]
    whole: Sequence[str] | None = None
    """The fused answer out of all that the side has, where less was compared."""
    embed_ms: float | None = None
    search_ms: float = 0.0
    tokens: int = 0
    index_recall: float | None = None


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """What both sides found for a question, and what answers it."""

    sides: tuple[SideResult, SideResult]
    grades: Mapping[str, int] | None = None
    """Of all judged names; None where nothing is judged."""
    missing: Sequence[str] = ()
    """Of those, the ones that the two do not have in common."""

    @property
    def findable(self) -> Mapping[str, int]:
        """The grades of what both could find."""
        return {name: grade for name, grade in (self.grades or {}).items() if name not in self.missing}


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class SideFigures:
    """What one side takes for a question."""

    embed_ms: Times | None
    """None where no question was embedded by itself."""
    search_ms: Times
    tokens: float
    """Estimated, of a question."""
    index_recall: Mean | None
    """None where it has no index."""


@dataclass(frozen=True, slots=True)
class WayFigures:
    """How good both sides are in one way, and the second against the first."""

    ndcg: tuple[Mean, Mean]
    rr: tuple[Mean, Mean]
    ndcg_difference: Comparison
    rr_difference: Comparison


@dataclass(frozen=True, slots=True)
class Judged:
    """What judgements tell."""

    questions: int
    """Those with an answer that both could find."""
    left_out: int
    """Those without one."""
    ways: Mapping[Way, WayFigures]
    whole: Mean | None = None
    """nDCG of the first side's fused answers out of all that it has, where less was compared."""
    predicted: Mean | None = None
    """The same for the second side, once it had as much."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All of it."""

    questions: int
    k: int
    overlap: Mapping[Way, Mean]
    """Share of the first `k` that both have."""
    agreement: Mapping[Way, Mean]
    """Rank-biased overlap: 1 is the same order, 0 nothing in common."""
    sides: tuple[SideFigures, SideFigures]
    judged: Judged | None


def summarise(results: Sequence[QuestionResult], k: int, seed: int) -> Summary:
    """The figures of at least one question."""
    pairs = {way: [_of(result, way) for result in results] for way in WAYS}
    return Summary(
        len(results),
        k,
        {way: mean_of([overlap(*both, k) for both in pairs[way]], seed) for way in WAYS},
        {way: mean_of([rank_biased_overlap(*both) for both in pairs[way]], seed) for way in WAYS},
        (
            _figures([result.sides[0] for result in results], seed),
            _figures([result.sides[1] for result in results], seed),
        ),
        _judged(results, k, seed),
    )


def _of(result: QuestionResult, way: Way) -> tuple[Sequence[str], Sequence[str]]:
    one, other = result.sides
    return (one.fused, other.fused) if way == "fused" else (one.semantic, other.semantic)


def overlap(one: Sequence[str], other: Sequence[str], k: int) -> float:
    """Share of the first `k` that two rankings have in common; of the longer where both are shorter."""
    first, second = set(one[:k]), set(other[:k])
    return len(first & second) / max(len(first), len(second)) if first or second else 1.0


def rank_biased_overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """How alike two rankings are, their first places counting most; as if they went on as they are."""
    depth = max(len(one), len(other))
    if not depth:
        return 1.0
    total = agreed = 0.0
    for place in range(1, depth + 1):
        agreed = len(set(one[:place]) & set(other[:place])) / place
        total += PERSISTENCE**place * agreed
    return (1 - PERSISTENCE) / PERSISTENCE * total + agreed * PERSISTENCE**depth


def _figures(found: Sequence[SideResult], seed: int) -> SideFigures:
    recalls = [one.index_recall for one in found if one.index_recall is not None]
    embedding = [one.embed_ms for one in found if one.embed_ms is not None]
    return SideFigures(
        _percentiles(embedding) if embedding else None,
        _percentiles([one.search_ms for one in found]),
        sum(one.tokens for one in found) / len(found),
        mean_of(recalls, seed) if recalls else None,
    )


def _percentiles(values: Iterable[float]) -> Times:
    ordered = sorted(values)
    return Times(ordered[(len(ordered) - 1) // 2], ordered[round(0.95 * (len(ordered) - 1))])


def _judged(results: Sequence[QuestionResult], k: int, seed: int) -> Judged | None:
    judged = [result for result in results if result.grades is not None]
    findable = [result for result in judged if any(grade > 0 for grade in result.findable.values())]
    if not findable:
        return None
    ways = {way: _way_figures(findable, way, k, seed) for way in WAYS}
    whole = predicted = None
    if all(result.sides[0].whole is not None for result in judged):
        of_all = [measured(result.sides[0].whole or (), result.grades or {}, k)[NDCG] for result in judged]
        whole = mean_of(of_all, seed)
        values = [_values(findable, "fused", place, k, NDCG) for place in (0, 1)]
        predicted = predict(whole.mean, values[0], values[1], seed)
    return Judged(len(findable), len(judged) - len(findable), ways, whole, predicted)


def _values(results: Sequence[QuestionResult], way: Way, place: int, k: int, measure: str) -> list[float]:
    return [measured(_of(result, way)[place], result.findable, k)[measure] for result in results]


def _way_figures(results: Sequence[QuestionResult], way: Way, k: int, seed: int) -> WayFigures:
    ndcg, rr = ([_values(results, way, place, k, measure) for place in (0, 1)] for measure in (NDCG, f"RR@{k}"))
    return WayFigures(
        (mean_of(ndcg[0], seed), mean_of(ndcg[1], seed)),
        (mean_of(rr[0], seed), mean_of(rr[1], seed)),
        compared(ndcg[1], ndcg[0], seed),
        compared(rr[1], rr[0], seed),
    )


def predict(whole: float, one: Sequence[float], other: Sequence[float], seed: int) -> Mean | None:
    """What the second side would reach with all that the first has, from what both reach on the same part of it.

    A part has fewer wrong answers, so that both reach more on it: what carries over is how one compares with the
    other. None where the first finds nothing.
    """
    if not sum(one):
        return None
    rng, places = random.Random(seed), range(len(one))
    ratios = []
    for _ in range(ROUNDS):
        drawn = rng.choices(places, k=len(places))
        total = sum(one[place] for place in drawn)
        if total:
            ratios.append(min(1.0, whole * sum(other[place] for place in drawn) / total))
    ratios.sort()
    tail = len(ratios) // 40
    return Mean(min(1.0, whole * sum(other) / sum(one)), ratios[tail], ratios[-tail - 1])


def worse_than(judged: Judged, most_loss: float) -> list[str]:
    """Why the second side is not good enough, a sentence for each reason; none where it is.

    By nDCG and reciprocal rank of the fused answers, and of vectors alone, as words hide what vectors lose where
    questions have the words of their answers. A loss counts where it is more than `most_loss` and more than chance.
    Overlap decides nothing, since two good models may have little in common.
    """
    reasons = []
    for way in WAYS:
        figures, of = judged.ways[way], "" if way == "fused" else " of vectors alone"
        for name, comparison in (("nDCG@10", figures.ndcg_difference), ("MRR", figures.rr_difference)):
            difference = comparison.difference
            if comparison.verdict == "worse" and -difference.mean > most_loss:
                reasons.append(
                    f"{name}{of} is {-difference.mean:.3f} lower ({difference.low:+.3f} … {difference.high:+.3f},"
                    f" p = {comparison.p:.3f}), at most {most_loss:g} is allowed"
                )
    return reasons


def as_json(summary: Summary) -> dict[str, Any]:
    """As a JSON document."""
    judged = summary.judged
    return {
        "questions": summary.questions,
        "k": summary.k,
        "overlap": {way: _mean(mean) for way, mean in summary.overlap.items()},
        "rank_agreement": {way: _mean(mean) for way, mean in summary.agreement.items()},
        "judged": None
        if judged is None
        else {
            "questions": judged.questions,
            "left_out": judged.left_out,
            "ways": {way: _way_json(figures, summary.k) for way, figures in judged.ways.items()},
            "whole_nDCG@10": _mean(judged.whole),
            "predicted_nDCG@10": _mean(judged.predicted),
        },
    }


def _way_json(figures: WayFigures, k: int) -> dict[str, Any]:
    measures = ((NDCG, figures.ndcg, figures.ndcg_difference), (f"RR@{k}", figures.rr, figures.rr_difference))
    return {
        name: {
            "first": _mean(both[0]),
            "second": _mean(both[1]),
            "difference": _mean(comparison.difference),
            "p": comparison.p,
            "verdict": comparison.verdict,
        }
        for name, both, comparison in measures
    }


def _mean(mean: Mean | None) -> dict[str, float] | None:
    return None if mean is None else {"mean": mean.mean, "low": mean.low, "high": mean.high}
