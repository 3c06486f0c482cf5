"""Fusing channels by score, each weighing what it knows about the question at hand.

A channel's scores are normalised over its candidates: 0 for the weakest that is counted, 1 for the best. How far apart
these two are says how much the channel knows. Full-text scores are the share of the question's words that a memory has,
rare ones weighing more: where all candidates have as much of them the words decide nothing. A best vector that stands
out by less than the vectors of the project differ anyway decides nothing either. Who knows less weighs less, and that
both found a memory says as much as the one that knows less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

WEIGHTS: Mapping[str, float] = {"fulltext": 0.5, "semantic": 0.4}
"""Of channels that know as much as can be. docs/retrieval.md says how they were found."""

AGREEMENT = 0.1
"""For a memory that more than one channel found, where all of them know as much as can be. With the weights this is 1:
the most that a score can be."""

FULLTEXT_SPAN = 0.4
"""How far the best full-text score is from the weakest where words decide: 0.5 is all of them against none."""

FULLTEXT_POWER = 1.5
"""Where memories have half of the words, they say less than half."""

FULLTEXT_POWER_IN_CONTEXT = 3.5
"""The same beside a model that reads words in their context: it is right more often than a part of the words is."""

SEMANTIC_SPAN = 2.5
"""The same for vectors, in standard deviations of the similarities between the project's own."""

SEMANTIC_POWER = 2
"""Vectors stand out by half of that by chance alone: they know a quarter then."""

COUNTED = 60
"""Candidates that a channel is normalised over, so that a longer answer begins as a shorter one does."""


@dataclass(frozen=True, slots=True)
class Dispersion:
    """How similar the vectors of a project are to each other, in one space."""

    mean: float
    deviation: float


USUAL_DISPERSION = Dispersion(0.0, 0.1)
"""Until a project was measured: what most models have."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one channel found, best first and without duplicates."""

    keys: Sequence[int]
    scores: Sequence[float]
    weakest: float
    """The score that counts as nothing."""
    span: float
    """How far the best score is from the weakest in a channel that knows as much as can be; above 0."""
    power: float = 1
    """Of what the share of that span counts."""

    @property
    def knows(self) -> float:
        """0…1: how much the channel knows about the question."""
        return min(1.0, (self.scores[0] - self.weakest) / self.span) ** self.power if self.scores else 0.0

    def normalised(self, score: float) -> float:
        """0…1: a score between the weakest and the best."""
        return (score - self.weakest) / (self.scores[0] - self.weakest) if score > self.weakest else 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """What a channel gives to the score of a memory: weight times normalised."""

    rank: int
    """From 1."""
    normalised: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Fused:
    """One item of the fused ranking."""

    key: int
    score: float
    """0…1: the sum of what the channels give, and of the agreement."""
    agreement: float
    shares: Mapping[str, Share] = field(default_factory=dict)
    """By channel that found it."""


def by_words(keys: Sequence[int], scores: Sequence[float], limit: int, *, in_context: bool = False) -> Ranking:
    """The full-text ranking, of which at most `limit` were asked for: with fewer, all others have no word.

    `in_context`: the vectors beside it are of a model that reads words in their context.
    """
    counted = min(COUNTED, limit)
    weakest = scores[counted - 1] if len(scores) >= counted else 0.0
    power = FULLTEXT_POWER_IN_CONTEXT if in_context else FULLTEXT_POWER
    return Ranking(keys, scores, weakest, FULLTEXT_SPAN, power)


def by_vectors(keys: Sequence[int], scores: Sequence[float], limit: int, dispersion: Dispersion) -> Ranking:
    """The semantic ranking; where the project has fewer vectors than were asked for, they stand out from its usual."""
    counted = min(COUNTED, limit)
    last = scores[min(counted, len(scores)) - 1] if scores else 0.0
    weakest = last if len(scores) >= counted else min(last, dispersion.mean)
    return Ranking(keys, scores, weakest, max(SEMANTIC_SPAN * dispersion.deviation, 1e-6), SEMANTIC_POWER)


def weigh(rankings: Mapping[str, Ranking]) -> Mapping[str, float]:
    """What each channel weighs for the question at hand."""
    return {channel: WEIGHTS[channel] * ranking.knows for channel, ranking in rankings.items()}


def agreement(rankings: Mapping[str, Ranking], given_weights: Mapping[str, float] | None = None) -> float:
    """What it is worth for the question at hand that more than one channel found a memory."""
    if given_weights is not None:
        return AGREEMENT if all(given_weights[channel] > 0 for channel in rankings) else 0.0
    return AGREEMENT * min((ranking.knows for ranking in rankings.values()), default=0.0)


def given(weights: Mapping[str, float]) -> Mapping[str, float]:
    """Weights that a caller gave, at least one of them above 0, made comparable with ours."""
    total = sum(weights.values())
    return {channel: (1 - AGREEMENT) * weight / total for channel, weight in weights.items()}


@dataclass(frozen=True, slots=True)
class FusedRanking:
    """One ranking of several, best first; its items are made when they are asked for."""

    rankings: Mapping[str, Ranking]
    weights: Mapping[str, float]
    agreement: float
    keys: Sequence[int]

    def __len__(self) -> int:
        return len(self.keys)

    def items(self, start: int, count: int) -> list[Fused]:
        """Some of them, from place `start` on."""
        return [self._item(key) for key in self.keys[start : start + count]]

    def _item(self, key: int) -> Fused:
        shares = {}
        for channel, ranking in self.rankings.items():
            if key in ranking.keys:
                place = ranking.keys.index(key)
                normalised = ranking.normalised(ranking.scores[place])
                shares[channel] = Share(place + 1, normalised, self.weights[channel] * normalised)
        agreement = self.agreement if len(shares) > 1 else 0.0
        return Fused(key, agreement + sum(share.contribution for share in shares.values()), agreement, shares)


def fuse(
    rankings: Mapping[str, Ranking], weights: Mapping[str, float], agreed: float, least: float = 0.0
) -> FusedRanking:
    """One ranking of several, without the items of a score below `least`; `agreed` goes to those that several found.

    Ties go to the item with the better single rank, then to the one that the earlier channel found: the order never
    depends on chance.
    """
    given_by = [_given(ranking, weights[channel]) for channel, ranking in rankings.items()]
    totals: dict[int, float] = {}
    for found in zip_longest(*given_by):  # in the order of ties, which sorting keeps
        for item in found:
            if item is not None:
                key, part = item
                totals[key] = totals[key] + part + agreed if key in totals else part
    kept = totals if least <= 0 else [key for key, total in totals.items() if total >= least]
    return FusedRanking(rankings, weights, agreed, sorted(kept, key=totals.__getitem__, reverse=True))


def _given(ranking: Ranking, weight: float) -> list[tuple[int, float]]:
    """What a channel gives to each key: `Ranking.normalised` times its weight, for a whole ranking at once."""
    if not ranking.scores:
        return []
    weakest = ranking.weakest
    above = ranking.scores[0] - weakest
    return [
        (key, weight * ((score - weakest) / above) if score > weakest else 0.0)
        for key, score in zip(ranking.keys, ranking.scores, strict=True)
    ]
