"""The JSON documents that routes answer with, as models: sent as they are documented, documented as they are sent."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

Money = Annotated[
    Decimal, PlainSerializer(lambda amount: f"{amount:f}", return_type=str), Field(description="US dollars, exact.")
]
EmbeddingStatus = Literal["embedded", "pending"]


class AnswerModel(BaseModel):
    """A JSON object."""

    model_config = ConfigDict(from_attributes=True, frozen=True, serialize_by_alias=True, extra="forbid")


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


class VersionAnswer(AnswerModel):
    """One version of a memory, as its author wrote it."""

    id: UUID
    project: str
    version_no: int
    current: bool
    tombstone: bool
    purged: bool
    text: str | None = Field(description="Null for a tombstone, and for what was purged.")
    summary: str | None
    type: str | None
    tags: tuple[str, ...]
    source: str | None
    importance: float | None
    confidence: float | None
    metadata: dict[str, Any] | None
    embedding_version: str | None = Field(description="The space that had its vectors at once when it was written.")
    tokens: int | None
    cost: Money | None
    created_by: str
    created_at: datetime


class MemoryAnswer(VersionAnswer):
    """The current version of a memory."""

    embedding_version: str | None = Field(description="The active space, where it has vectors of all chunks.")
    embedding_status: EmbeddingStatus
    chunks: int


class HistoryAnswer(AnswerModel):
    """Versions of a memory, newest first."""

    versions: list[VersionAnswer]
    next_before_version: int | None = Field(description="Give it as before_version for the next page.")


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


class ResultAnswer(AnswerModel):
    """One memory that was found."""

    id: UUID
    project: str
    version_no: int
    text: str = Field(description="What was written; of a memory of several chunks, the chunk that was found.")
    chunk: int
    score: float = Field(description="Reciprocal rank fusion: only the order means something.")
    match_kind: Literal["semantic", "fulltext", "both"]
    summary: str | None
    type: str | None
    tags: tuple[str, ...]
    source: str | None
    importance: float | None
    confidence: float | None
    metadata: dict[str, Any] | None
    created_at: datetime
    diagnostics: dict[str, Any]


class ChannelAnswer(AnswerModel):
    """How one channel did."""

    hits: int
    ms: float
    status: Literal["ok", "timeout", "unavailable", "skipped"]


class DiagnosticsAnswer(AnswerModel):
    """How well a query could look."""

    model_config = ConfigDict(extra="allow")

    semantic_status: Literal["ok", "filling", "no_active_space", "embedder_unavailable", "disabled"]
    reason: str | None
    embedding_version: str | None
    coverage: float | None = Field(default=None, description="Given while the active space is being filled.")
    channels: dict[str, ChannelAnswer]
    timings_ms: dict[str, float]


class QueryAnswer(AnswerModel):
    """What was found, best first."""

    results: list[ResultAnswer]
    diagnostics: DiagnosticsAnswer


class SpaceAnswer(AnswerModel):
    """One space; no credential, no header, no prefix, no address."""

    embedding_version: str
    provider: str
    type: str
    model: str | None
    dimensions: int
    column_type: Literal["vector", "halfvec"]
    distance: Literal["cosine", "l2", "dot"]
    state: Literal["filling", "ready", "retired", "orphaned"]
    active: bool
    vectors: int
    chunks: int = Field(description="Live chunks in the store.")
    coverage: float = Field(description="Vectors ÷ (chunks − quarantined).")
    quarantined: int
    pending: int
    create_enabled: bool
    trouble: str | None = Field(description="Why its embedder gives no vectors at the moment.")
    created_at: datetime


class WaitingAnswer(AnswerModel):
    """A Provider that no space could be made for yet."""

    provider: str
    phase: str
    reason: str
    message: str


class SpacesAnswer(AnswerModel):
    """The spaces, oldest first."""

    spaces: list[SpaceAnswer]
    without_space: list[WaitingAnswer] = Field(description="Providers that no space could be made for yet.")


class JobAnswer(AnswerModel):
    """One job: a walk over chunks that makes vectors of one space, or over memories that makes their chunks anew."""

    id: int
    kind: Literal["fill", "reembed", "reindex"]
    embedding_version: str | None = Field(description="Null for a reindex, which is about all spaces.")
    provider: str | None
    project: str | None = Field(description="Null: the whole store.")
    replace: bool = Field(description="Whether chunks that have a vector get a new one.")
    state: Literal["running", "paused", "done", "cancelled"]
    paused_for: Literal["user", "budget"] | None = Field(
        description="A job that waits for its budget goes on by itself when that is raised, or on the next day."
    )
    message: str | None
    done: int = Field(description="Chunks; memories in a reindex.")
    total: int
    rate: float | None = Field(description="How many a second since the first call.")
    eta_seconds: int | None
    tokens: int | None = Field(description="Input tokens that the vendor counted; null as long as it has not said.")
    cost: Money | None
    currency: Literal["USD"] = "USD"
    calls: int
    copied: int = Field(description="Of those done: vectors copied from an equal text instead of paid.")
    quarantined: int
    requested_by: str
    created_at: datetime
    first_call_at: datetime | None
    finished_at: datetime | None


class EffectAnswer(AnswerModel):
    """What a held change would do."""

    from_dim: int = Field(serialization_alias="from")
    to_dim: int = Field(serialization_alias="to")
    vectors_discarded: int
    chunks_to_embed: int
    estimated_tokens: int
    estimated_cost: Money | None
    currency: str


class HeldAnswer(EffectAnswer):
    """A change that waits for consent."""

    provider: str
    since: datetime
    message: str


class StatusAnswer(AnswerModel):
    """The store at one moment."""

    semantic_status: Literal["ok", "filling", "no_active_space", "embedder_unavailable", "disabled"]
    chunks: int
    active: SpaceAnswer | None
    spaces: list[SpaceAnswer]
    jobs: list[JobAnswer]
    held: list[HeldAnswer]


class ActivatedAnswer(AnswerModel):
    """The space that queries read from now on."""

    status: Literal["activated"] = "activated"
    embedding_version: str
    space: SpaceAnswer


class DeactivatedAnswer(AnswerModel):
    """Queries answer from full-text alone."""

    status: Literal["deactivated"] = "deactivated"


class CreateEnabledAnswer(AnswerModel):
    """Whether new memories are embedded for a space from now on."""

    status: Literal["enabled", "disabled"]
    embedding_version: str
    space: SpaceAnswer


class PrunedSpaceAnswer(AnswerModel):
    """A space that was removed, or would be."""

    embedding_version: str
    provider: str
    state: Literal["retired", "orphaned"]
    vectors: int
    bytes: int


class PrunedAnswer(AnswerModel):
    """What a prune removed, or would remove."""

    dry_run: bool
    spaces: list[PrunedSpaceAnswer]


class ProjectAnswer(AnswerModel):
    """A project and how many memories it has now."""

    project: str
    memories: int


class StatsAnswer(AnswerModel):
    """Counts: the caller's own memories, and what the whole store holds."""

    memories: int
    projects: list[ProjectAnswer]
    chunks: int
    vectors: int
    spaces: int
    held: int


class ActivityAnswer(AnswerModel):
    """Something that happened."""

    id: int
    at: datetime
    actor: str
    origin: str
    kind: str
    subject: str
    detail: dict[str, Any]


class ActivitiesAnswer(AnswerModel):
    """What happened, newest first."""

    activities: list[ActivityAnswer]
    next_before: int | None = Field(description="Give it as `before` for the next page.")


class MarkerAnswer(AnswerModel):
    """One consent."""

    id: int
    target_dim: int
    state: Literal["valid", "consumed", "expired", "withdrawn"]
    provider: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime
    consumed_at: datetime | None
    consumed_by: str | None
    withdrawn_at: datetime | None


class ConsentsAnswer(AnswerModel):
    """What waits for consent, and the newest markers."""

    held: list[HeldAnswer]
    markers: list[MarkerAnswer]


class RecordedAnswer(AnswerModel):
    """A consent that was recorded."""

    status: Literal["consent recorded"] = "consent recorded"
    target_dim: int
    id: int
    expires_at: datetime
    matches_held_change: bool
    effect: EffectAnswer | None


class ProblemAnswer(AnswerModel):
    """RFC 9457; some problems carry further members, such as the figures behind a refusal."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str = Field(min_length=1, description="What to do next.")
    request_id: str
