"""Queries: what is looked for and how, and what is found."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from pydantic import Field, model_validator

from memory_operator.contract.rerank import MOST_TEXTS
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.memories.answer import MatchKind, RecallAnswer, RerankStatus
from memory_operator.engine.memories.channels import ChannelName, ChannelStatus
from memory_operator.engine.memories.recall import Granularity, QueryOptions
from memory_operator.engine.memories.rerank import RerankOptions
from memory_operator.engine.spaces.active import SemanticStatus
from memory_operator.http.schemas.base import AnswerModel, Body, Name, ProviderName
from memory_operator.http.schemas.memories import AttributesAnswer, Share, flat
from memory_operator.store.memories.nearest import Filters, Matched

_LEAST_WEIGHT = 1e-6


class FiltersBody(Body):
    """What a memory must be to be found."""

    type: Name | None = Field(default=None, description="Its type.")
    tags: list[Name] = Field(default_factory=list, max_length=64, description="Tags that it has, all of them.")
    source: Name | None = Field(default=None, description="Its source.")
    created_after: datetime | None = Field(default=None, description="Stored after this moment.")
    created_before: datetime | None = Field(default=None, description="Stored before this moment.")

    @model_validator(mode="after")
    def _with_zones(self) -> FiltersBody:
        for name in ("created_after", "created_before"):
            moment = getattr(self, name)
            if moment is not None:
                _check_moment(name, moment)
        return self

    def filters(self) -> Filters:
        """The same for a search."""
        return Filters(self.type, tuple(self.tags), self.source, self.created_after, self.created_before)


def _check_moment(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError(f"{name} needs a time zone, as in 2026-01-31T12:00:00Z")
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{name} is out of the range of times") from error


class WeightsBody(Body):
    """What each channel weighs, instead of what it knows about the question. Only their ratio counts."""

    fulltext: float = Field(ge=0, le=1_000, allow_inf_nan=False, description="The words.")
    semantic: float = Field(ge=0, le=1_000, allow_inf_nan=False, description="The vectors.")

    @model_validator(mode="after")
    def _weighs_something(self) -> WeightsBody:
        if self.fulltext + self.semantic < _LEAST_WEIGHT:
            raise ValueError("at least one weight is above 0")
        return self


class RerankBody(Body):
    """Who re-ranks the first results, and how many of them; texts of memories are sent there."""

    provider: ProviderName | None = Field(
        default=None, description="namespace/name of a Provider with a rerank API; left out, the one of the space."
    )
    top: int | None = Field(
        default=None, ge=0, le=MOST_TEXTS, description="How many; 0 is no re-ranking. Left out, as the Provider says."
    )

    @property
    def ref(self) -> ProviderRef | None:
        """The Provider that is named."""
        return ProviderRef(*self.provider.split("/")) if self.provider else None


class QueryBody(Body):
    """What to look for."""

    query: str = Field(min_length=1, max_length=100_000, description="A question, or words.")
    project: Name = Field(default="default", description="Where to look.")
    k: int = Field(default=10, ge=1, le=200, description="How many results at most.")
    filters: FiltersBody | None = Field(default=None, description="What a memory must be to be found.")
    channels: list[ChannelName] = Field(
        default=["fulltext", "semantic"], min_length=1, max_length=2, description="Those that are asked."
    )
    embedding_version: Name | None = Field(default=None, description="The space to read instead of the active one.")
    min_score: Share = Field(default=0.0, description="Results with a lower score are left out.")
    granularity: Granularity = Field(default="memory", description="A result: a memory by its best chunk, or a chunk.")
    context: int = Field(default=0, ge=0, le=5, description="Chunks to show before and after the one that was found.")
    fold: bool = Field(default=True, description="Make one of results with the same text; `also` names the others.")
    weights: WeightsBody | None = Field(default=None, description="What the channels weigh; left out, it is found.")
    explain: bool = Field(default=False, description="Say how the channels were weighed.")
    rerank: RerankBody | None = Field(
        default=None, description="Who re-ranks the first results; left out, as the Provider of the space says."
    )

    def options(self) -> QueryOptions:
        """How to look."""
        return QueryOptions(
            tuple(self.channels),
            self.embedding_version,
            min_score=self.min_score,
            granularity=self.granularity,
            context=self.context,
            fold=self.fold,
            weights=self.weights.model_dump() if self.weights else None,
            explain=self.explain,
            rerank=RerankOptions(self.rerank.ref, self.rerank.top) if self.rerank else None,
        )


class MatchAnswer(AnswerModel):
    """How one channel ranked a memory."""

    rank: int
    score: float
    normalised: float = Field(description="0…1: from the channel's weakest counted candidate to its best.")
    contribution: float = Field(description="To the fused score: the channel's weight times `normalised`.")
    matched: Matched


class RerankMatchAnswer(AnswerModel):
    """What the reranker says of a result."""

    rank: int
    score: float = Field(description="As the vendor gave it.")
    relevance: float = Field(description="0…1: the same, or of scores below 0 or above 1 their logistic function.")
    rank_before: int = Field(description="Where the result stood before.")


class ResultDiagnosticsAnswer(AnswerModel):
    """Why a memory stands where it does."""

    channels: dict[str, MatchAnswer] = Field(description="Those that found it.")
    agreement: float = Field(description="To the fused score, where both channels found it.")
    fused_score: float = Field(description="The sum of what the channels give, and of the agreement.")
    rerank: RerankMatchAnswer | None = Field(description="Where it was re-ranked; `relevance` is then the score.")
    fulltext_score: float | None
    similarity: float | None
    age_seconds: float
    importance: float | None
    confidence: float | None
    matched_tags: list[str]


class _ResultHead(AnswerModel):
    id: UUID
    project: str
    version_no: int
    text: str = Field(description="What was written; of a memory of several chunks, the chunk that was found.")
    chunk: int
    score: float = Field(
        description="0…1: the fused score; of a re-ranked result its relevance, and of one after these its fused score"
        " times `least_relevance`."
    )
    match_kind: MatchKind


class ResultAnswer(AttributesAnswer, _ResultHead):
    """One memory that was found."""

    created_at: datetime
    before: list[str] = Field(description="Chunks before the one that was found, as many as `context` says.")
    after: list[str] = Field(description="Chunks after it.")
    also: list[UUID] = Field(description="Memories with the same text but for case, blanks and punctuation.")
    diagnostics: ResultDiagnosticsAnswer


class ChannelAnswer(AnswerModel):
    """How one channel did."""

    hits: int
    ms: float
    status: ChannelStatus


class CutAnswer(AnswerModel):
    """How many characters of a long question were used."""

    characters: int
    fulltext: int
    semantic: int


class ChannelWeightAnswer(AnswerModel):
    """What one channel weighs in a query: `usual` times `knows`, unless weights were given."""

    weight: float
    usual: float
    knows: float = Field(description="0…1: how much of `span` `best` is from `weakest`, to the power of `power`.")
    best: float | None = Field(description="Its best score; null where it found nothing.")
    weakest: float = Field(description="The score that counts as nothing.")
    span: float
    power: float


class DispersionAnswer(AnswerModel):
    """How similar the project's vectors are to each other in the space."""

    mean: float
    deviation: float


class ExplanationAnswer(AnswerModel):
    """How a score comes about: of each channel weight × (score - weakest) ÷ (best - weakest), and the agreement."""

    channels: dict[str, ChannelWeightAnswer]
    agreement: float = Field(description="For a memory that both channels found: a tenth of the lesser `knows`.")
    weights_given: bool
    dispersion: DispersionAnswer


class RerankAnswer(AnswerModel):
    """How re-ranking went."""

    provider: str
    model: str
    status: RerankStatus
    reason: str | None = Field(description="Why results are in the order before, where they are.")
    texts: int = Field(description="How many were to be re-ranked.")
    least_relevance: float | None = Field(
        description="Multiplies the fused scores of results after the re-ranked ones."
    )
    ms: float


class DiagnosticsAnswer(AnswerModel):
    """How well a query could look."""

    semantic_status: SemanticStatus
    reason: str | None
    embedding_version: str | None
    coverage: float | None = Field(description="Given while the active space is being filled.")
    channels: dict[str, ChannelAnswer]
    timings_ms: dict[str, float]
    cut: CutAnswer | None = Field(description="Given where only the beginning of a long question was used.")
    explanation: ExplanationAnswer | None = Field(description="Given where `explain` was asked for.")
    rerank: RerankAnswer | None = Field(description="Given where results were to be re-ranked.")


class QueryAnswer(AnswerModel):
    """What was found, best first."""

    results: list[ResultAnswer]
    diagnostics: DiagnosticsAnswer

    @classmethod
    def of(cls, found: RecallAnswer) -> QueryAnswer:
        """What a query found."""
        return cls.model_validate(
            {"results": [flat(result) for result in found.results], "diagnostics": found.diagnostics}
        )
