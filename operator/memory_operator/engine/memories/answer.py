"""What a query answers: the results, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from memory_operator.engine.memories.channels import ChannelStatus
from memory_operator.engine.memories.shaping import Cut
from memory_operator.engine.memories.weighing import Explanation
from memory_operator.engine.spaces.active import SemanticStatus
from memory_operator.memory.attributes import PlainAttributes
from memory_operator.store.memories.nearest import Matched

MatchKind = Literal["semantic", "fulltext", "both"]
RerankStatus = Literal["ok", "unavailable"]


def milliseconds(seconds: float) -> float:
    """A time as diagnostics tell it."""
    return round(seconds * 1000, 3)


@dataclass(frozen=True, slots=True)
class ChannelMatch:
    """How one channel ranked a memory."""

    rank: int
    score: float
    normalised: float
    """0…1: from the channel's weakest counted candidate to its best."""
    contribution: float
    """To the fused score: the channel's weight times `normalised`."""
    matched: Matched


@dataclass(frozen=True, slots=True)
class RerankMatch:
    """What the reranker says of a result."""

    rank: int
    """From 1."""
    score: float
    """As the vendor gave it."""
    relevance: float
    """0…1: the same where all scores of the reply are from 0 to 1, else its logistic function. The score."""
    rank_before: int
    """From 1: where it stood before, after equal texts were folded."""


@dataclass(frozen=True, slots=True)
class RerankDiagnostics:
    """How re-ranking went."""

    provider: str
    model: str
    status: RerankStatus
    reason: str | None
    """Why results are in the order before, where they are."""
    texts: int
    """How many were sent, or would have been."""
    least_relevance: float | None
    """What results after the re-ranked ones have their fused score multiplied by."""
    ms: float


@dataclass(frozen=True, slots=True)
class ResultDiagnostics:
    """Why a memory stands where it does."""

    channels: Mapping[str, ChannelMatch]
    """Those that found it."""
    agreement: float
    """To the fused score, where both channels found it."""
    fused_score: float
    """What the channels and their agreement give; the score, unless results were re-ranked."""
    rerank: RerankMatch | None
    """Where it was re-ranked."""
    fulltext_score: float | None
    similarity: float | None
    age_seconds: float
    importance: float | None
    confidence: float | None
    matched_tags: Sequence[str]


@dataclass(frozen=True, slots=True)
class ChannelDiagnostics:
    """How one channel did."""

    hits: int
    ms: float
    status: ChannelStatus


@dataclass(frozen=True, slots=True)
class QueryDiagnostics:
    """How well a query could look."""

    semantic_status: SemanticStatus
    reason: str | None
    embedding_version: str | None
    coverage: float | None
    """Given while the active space is being filled."""
    channels: Mapping[str, ChannelDiagnostics]
    timings_ms: Mapping[str, float]
    cut: Cut | None
    """How much of the question was used, where that is not all of it."""
    explanation: Explanation | None
    """How the channels were weighed, where it was asked for."""
    rerank: RerankDiagnostics | None
    """How re-ranking went, where results were to be re-ranked."""


@dataclass(frozen=True, slots=True)
class Result:
    """One memory that was found."""

    id: UUID
    project: str
    version_no: int
    text: str
    """What its author wrote; of a memory that was cut into several chunks, the chunk that was found."""
    chunk: int
    """Number of that chunk, from 0."""
    score: float
    """0…1: what the channels give and the agreement of both; of re-ranked results how well the reranker says they
    answer, of those after them the former times the least of the latter."""
    match_kind: MatchKind
    attributes: PlainAttributes
    created_at: datetime
    diagnostics: ResultDiagnostics
    before: tuple[str, ...] = ()
    """Chunks of the memory that stand before the one that was found, as many as were asked for."""
    after: tuple[str, ...] = ()
    also: tuple[UUID, ...] = ()
    """Memories with the same text, which are left out of the results."""


@dataclass(frozen=True, slots=True)
class RecallAnswer:
    """What a query finds, and how well it could look."""

    results: tuple[Result, ...]
    diagnostics: QueryDiagnostics
