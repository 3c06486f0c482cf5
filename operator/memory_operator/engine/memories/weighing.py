"""What the channels of a query weigh, and the arithmetic of it for whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memory_operator.engine.memories.channels import Channel, Semantic
from memory_operator.memory.fusion import (
    WEIGHTS,
    Dispersion,
    FusedRanking,
    Ranking,
    agreement,
    by_vectors,
    by_words,
    fuse,
    given,
    weigh,
)
from memory_operator.plan.space import CallConfig


@dataclass(frozen=True, slots=True)
class ChannelWeight:
    """What one channel weighs in a query: `usual` times `knows`, unless the caller said otherwise."""

    weight: float
    usual: float
    knows: float
    """0…1: how far `best` is from `weakest`, as a share of `span`, to the power of `power`."""
    best: float | None
    """None where it found nothing."""
    weakest: float
    span: float
    power: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a score comes about: of each channel weight × (score - weakest) ÷ (best - weakest), and the agreement."""

    channels: Mapping[str, ChannelWeight]
    agreement: float
    """For a memory that both channels found: a tenth of what the one knows that knows less."""
    weights_given: bool
    dispersion: Dispersion
    """Of the project's vectors in the space."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """What the channels found, and what each of them weighs."""

    rankings: Mapping[str, Ranking]
    weights: Mapping[str, float]
    agreement: float
    weights_given: bool
    dispersion: Dispersion

    def fused(self, least: float) -> FusedRanking:
        """One ranking, without the items of lower scores."""
        return fuse(self.rankings, self.weights, self.agreement, least)

    def explained(self) -> Explanation:
        """The figures behind it."""
        channels = {
            name: ChannelWeight(
                weight=self.weights[name],
                usual=WEIGHTS[name],
                knows=ranking.knows,
                best=ranking.scores[0] if ranking.scores else None,
                weakest=ranking.weakest,
                span=ranking.span,
                power=ranking.power,
            )
            for name, ranking in self.rankings.items()
        }
        return Explanation(channels, self.agreement, self.weights_given, self.dispersion)


def weighing(
    words: Channel, meaning: Semantic, model: CallConfig | None, limit: int, wanted: Mapping[str, float] | None
) -> Weighing:
    """Weigh what the channels found, of which at most `limit` were asked for.

    `model` is the one whose space was searched, None where there is none; `wanted` are weights of the caller's.
    """

    def parts(channel: Channel) -> tuple[list[int], list[float]]:
        return [hit.key for hit in channel.hits], [hit.score for hit in channel.hits]

    rankings = {
        "fulltext": by_words(*parts(words), limit, in_context=model is not None and model.reads_context),
        "semantic": by_vectors(*parts(meaning), limit, meaning.dispersion),
    }
    weights = given(wanted) if wanted else weigh(rankings)
    agreed = agreement(rankings, weights if wanted else None)
    return Weighing(rankings, weights, agreed, wanted is not None, meaning.dispersion)
