"""Memories: what is given to be stored and looked for, and what is answered."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, model_validator

from memory_operator.engine.memories.channels import ChannelName, ChannelStatus
from memory_operator.engine.memories.recall import Granularity, MatchKind, QueryOptions, RecallAnswer, Result
from memory_operator.engine.memories.remember import Memory, ShownMemory
from memory_operator.engine.memories.version_write import EmbeddingStatus
from memory_operator.engine.spaces.active import SemanticStatus
from memory_operator.http.schemas.base import AnswerModel, Body, Money, Name
from memory_operator.memory.attributes import Attributes
from memory_operator.store.memories.nearest import Filters, Matched

_MAX_TEXT = 1 << 20
_LEAST_WEIGHT = 1e-6

REMAINS = (
    "in the store the ids, times and authors of versions, and the project's name; outside of the tables sealed texts,"
    " words and vectors, until PostgreSQL vacuums and recycles its write-ahead log, and in backups"
)
"""What a purge does not reach."""

Share = Annotated[float, Field(ge=0, le=1)]

_BEGINNING = re.compile(r"[0-9A-Fa-f]{4,8}(-[-0-9A-Fa-f]{0,23})?")


def _is_beginning(text: str) -> str:
    if not _BEGINNING.fullmatch(text):
        raise ValueError("must be the beginning of an id, such as 3f2a or 3f2a91c0-77aa")
    return text


IdBeginning = Annotated[
    str, Field(json_schema_extra={"pattern": f"^{_BEGINNING.pattern}$"}), AfterValidator(_is_beginning)
]


def ids_beginning(text: str) -> tuple[UUID, UUID]:
    """The first and the last id that can begin like this."""
    digits = text.replace("-", "")
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


class AttributesBody(Body):
    """What is said of a memory beside its text."""

    summary: str | None = Field(default=None, max_length=20_000, description="A short form of the text.")
    type: Name | None = Field(default=None, description="A kind of memory, such as decision.")
    tags: list[Name] = Field(default_factory=list, max_length=64, description="Labels to filter by.")
    source: Name | None = Field(default=None, description="Where it comes from.")
    importance: Share | None = Field(default=None, description="0 to 1.")
    confidence: Share | None = Field(default=None, description="0 to 1.")
    metadata: dict[str, JsonValue] | None = Field(default=None, description="Anything else; stored encrypted.")

    def given(self) -> dict[str, Any]:
        """Those that the caller gave, by name in Attributes."""
        found = {name: getattr(self, name) for name in AttributesBody.model_fields if name in self.model_fields_set}
        return found | {"tags": tuple(self.tags)} if "tags" in found else found


class MemoryBody(AttributesBody):
    """A memory to store."""

    text: str = Field(min_length=1, max_length=_MAX_TEXT, description="What is to be remembered.")
    project: Name = Field(default="default", description="Namespace of memories inside the tenant.")


class ChangesBody(AttributesBody):
    """Fields of a memory to change; those left out stay. A new version is stored."""

    text: str = Field(default="", min_length=1, max_length=_MAX_TEXT, description="The new text.")

    @model_validator(mode="after")
    def _says_something(self) -> ChangesBody:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        return self


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
        )


class AttributesAnswer(AnswerModel):
    """What is said of a memory beside its text."""

    summary: str | None
    type: str | None
    tags: tuple[str, ...]
    source: str | None
    importance: float | None
    confidence: float | None
    metadata: dict[str, Any] | None


class StoredAnswer(AnswerModel):
    """A version of a memory that was stored."""

    id: UUID
    project: str
    version_no: int
    embedding_version: str | None = Field(description="The active space; null while it lacks this memory's vectors.")
    embedding_status: EmbeddingStatus
    chunks: int
    tokens: int | None = Field(description="Input tokens paid for this write; null when unknown or still to come.")
    cost: Money | None
    created_at: datetime


class _VersionHead(AnswerModel):
    id: UUID
    project: str
    version_no: int
    current: bool
    tombstone: bool
    purged: bool
    text: str | None = Field(description="Null for a tombstone, and for what was purged.")


class VersionAnswer(AttributesAnswer, _VersionHead):
    """One version of a memory, as its author wrote it."""

    embedding_version: str | None = Field(description="The space that had its vectors at once when it was written.")
    tokens: int | None
    cost: Money | None
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, memory: Memory) -> VersionAnswer:
        """A version as the API shows it."""
        return cls.model_validate(_flat(memory))


class MemoryAnswer(VersionAnswer):
    """The current version of a memory."""

    embedding_version: str | None = Field(description="The active space, where it has vectors of all chunks.")
    embedding_status: EmbeddingStatus
    chunks: int

    @classmethod
    def of_shown(cls, shown: ShownMemory) -> MemoryAnswer:
        """The current version, and whether the active space finds it."""
        status = {"embedding_version": shown.embedding_version, "embedding_status": shown.embedding_status}
        return cls.model_validate({**_flat(shown.memory), **status, "chunks": shown.chunks})


class HistoryAnswer(AnswerModel):
    """Versions of a memory, newest first."""

    versions: list[VersionAnswer]
    next_before_version: int | None = Field(description="Give it as before_version for the next page.")


class MemoriesAnswer(AnswerModel):
    """Current memories, newest first."""

    memories: list[VersionAnswer]
    next_before: int | None = Field(description="Give it as `before` for the next page.")


class ErasedAnswer(AnswerModel):
    """What there was, and is no more."""

    versions: int
    chunks: int
    vectors: dict[str, int] = Field(description="By embedding version.")


class PurgedAnswer(AnswerModel):
    """The confirmation of a purge."""

    status: Literal["purged"] = "purged"
    id: UUID
    erased: ErasedAnswer
    remains: str = REMAINS


class MatchAnswer(AnswerModel):
    """How one channel ranked a memory."""

    rank: int
    score: float
    normalised: float = Field(description="0…1: from the channel's weakest counted candidate to its best.")
    contribution: float = Field(description="To the fused score: the channel's weight times `normalised`.")
    matched: Matched


class ResultDiagnosticsAnswer(AnswerModel):
    """Why a memory stands where it does."""

    channels: dict[str, MatchAnswer] = Field(description="Those that found it.")
    agreement: float = Field(description="To the fused score, where both channels found it.")
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
    score: float = Field(description="0…1: the sum of what the channels give, and of the agreement.")
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
    knows: float = Field(description="0…1: how far `best` is from `weakest`, as a share of `span`.")
    best: float | None = Field(description="Its best score; null where it found nothing.")
    weakest: float = Field(description="The score that counts as nothing.")
    span: float


class DispersionAnswer(AnswerModel):
    """How similar the project's vectors are to each other in the space."""

    mean: float
    deviation: float


class ExplanationAnswer(AnswerModel):
    """How a score comes about: of each channel weight × (score - weakest) ÷ (best - weakest), and the agreement."""

    channels: dict[str, ChannelWeightAnswer]
    agreement: float = Field(description="For a memory that both channels found.")
    weights_given: bool
    dispersion: DispersionAnswer


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


class QueryAnswer(AnswerModel):
    """What was found, best first."""

    results: list[ResultAnswer]
    diagnostics: DiagnosticsAnswer

    @classmethod
    def of(cls, found: RecallAnswer) -> QueryAnswer:
        """What a query found."""
        return cls.model_validate(
            {"results": [_flat(result) for result in found.results], "diagnostics": found.diagnostics}
        )


def _flat(item: Memory | Result) -> dict[str, Any]:
    """A memory's own fields and its attributes, side by side as JSON has them."""
    own = {field.name: getattr(item, field.name) for field in fields(item) if field.name != "attributes"}
    return own | {field.name: getattr(item.attributes, field.name) for field in fields(Attributes)}
