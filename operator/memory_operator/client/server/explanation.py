"""The parts of a query's answer that say why a result stands where it does."""

from __future__ import annotations

from memory_operator.client.server.reading import AnswerDocument


class MatchDocument(AnswerDocument):
    """How one channel ranked a result."""

    rank: int
    score: float
    contribution: float


class HitDiagnosticsDocument(AnswerDocument):
    """Why a result stands where it does."""

    channels: dict[str, MatchDocument] = {}  # noqa: RUF012  (a default of the reader's, never changed)
    agreement: float = 0.0


class ChannelWeightDocument(AnswerDocument):
    """What one channel weighs in a query."""

    weight: float
    usual: float
    knows: float


class ExplanationDocument(AnswerDocument):
    """How the scores of an answer come about."""

    channels: dict[str, ChannelWeightDocument]
    weights_given: bool = False
