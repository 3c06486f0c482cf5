"""The parts of a query's answer that say why a result stands where it does."""

from __future__ import annotations

from memory_operator.client.server.reading import AnswerDocument


class MatchDocument(AnswerDocument):
    """How one channel ranked a result."""

    rank: int
    score: float
    contribution: float


class RerankMatchDocument(AnswerDocument):
    """What the reranker says of a result."""

    rank: int
    score: float
    relevance: float
    rank_before: int


class RerankDocument(AnswerDocument):
    """How re-ranking went."""

    provider: str
    model: str = ""
    status: str
    reason: str | None = None
    texts: int = 0
    least_relevance: float | None = None


class HitDiagnosticsDocument(AnswerDocument):
    """Why a result stands where it does."""

    channels: dict[str, MatchDocument] = {}  # noqa: RUF012  (a default of the reader's, never changed)
    agreement: float = 0.0
    fused_score: float = 0.0
    rerank: RerankMatchDocument | None = None


class ChannelWeightDocument(AnswerDocument):
    """What one channel weighs in a query."""

    weight: float
    usual: float
    knows: float


class ExplanationDocument(AnswerDocument):
    """How the scores of an answer come about."""

    channels: dict[str, ChannelWeightDocument]
    weights_given: bool = False
