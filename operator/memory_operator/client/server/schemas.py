"""The parts of the server's answers that are shown to people; whatever else is in them is passed over."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memory_operator.client.errors import MisunderstoodError


class AnswerDocument(BaseModel):
    """A JSON object of the server, newer or older than this program."""

    model_config = ConfigDict(extra="ignore", frozen=True)


A = TypeVar("A", bound=AnswerDocument)


def read(model: type[A], document: Any) -> A:
    """An answer as an object. Raises MisunderstoodError."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the whole of it"
        raise MisunderstoodError(
            f"the server's answer was not understood (at {where})",
            "this program and the server may be of different ages; --json prints the answer as it is",
        ) from error


class AddedDocument(AnswerDocument):
    """POST /memory/add and PATCH /memory/{id}."""

    id: str
    project: str
    version_no: int = 1
    embedding_version: str | None = None
    embedding_status: str


class MemoryDocument(AnswerDocument):
    """GET /memory/{id}: the current version."""

    id: str
    project: str
    version_no: int
    text: str | None = None
    summary: str | None = None
    type: str | None = None
    tags: list[str] = Field(default_factory=list)
    source: str | None = None
    importance: float | None = None
    confidence: float | None = None
    metadata: dict[str, Any] | None = None
    embedding_version: str | None = None
    embedding_status: str | None = None
    tombstone: bool = False
    purged: bool = False
    created_by: str | None = None
    created_at: datetime | None = None


class HistoryDocument(AnswerDocument):
    """GET /memory/{id}/history: versions, newest first."""

    versions: list[MemoryDocument]
    next_before_version: int | None = None


class HitDocument(AnswerDocument):
    """One result of a query."""

    id: str
    text: str
    score: float
    match_kind: str


class QueryDiagnosticsDocument(AnswerDocument):
    """How a query was answered."""

    semantic_status: str
    reason: str | None = None
    embedding_version: str | None = None
    coverage: float | None = None


class FoundDocument(AnswerDocument):
    """POST /memory/query."""

    results: list[HitDocument]
    diagnostics: QueryDiagnosticsDocument


class SpaceDocument(AnswerDocument):
    """One of GET /v1/embeddings/spaces."""

    embedding_version: str
    provider: str
    dimensions: int
    state: str
    active: bool
    vectors: int
    chunks: int
    coverage: float
    quarantined: int = 0
    pending: int = 0
    trouble: str | None = None


class WaitingDocument(AnswerDocument):
    """A Provider that no space could be made for yet."""

    provider: str
    reason: str
    message: str


class SpacesDocument(AnswerDocument):
    """GET /v1/embeddings/spaces."""

    spaces: list[SpaceDocument]
    without_space: list[WaitingDocument] = Field(default_factory=list)


class ActivatedDocument(AnswerDocument):
    """POST /v1/embeddings/activate."""

    space: SpaceDocument


class JobDocument(AnswerDocument):
    """A walk over chunks that makes a space's vectors, or over memories that makes their chunks anew."""

    id: int = 0
    kind: str = "fill"
    embedding_version: str | None = None
    provider: str | None = None
    project: str | None = None
    state: str
    paused_for: str | None = None
    message: str | None = None
    done: int
    total: int
    rate: float | None = None
    eta_seconds: float | None = None
    tokens: int | None = None
    cost: str | None = None
    currency: str = "USD"
    quarantined: int = 0
    created_at: datetime | None = None

    @property
    def name(self) -> str:
        """What it works on."""
        return self.embedding_version or self.kind


class PrunedSpaceDocument(AnswerDocument):
    """A space that was removed, or would be."""

    embedding_version: str
    provider: str
    state: str
    vectors: int
    size_bytes: int = Field(alias="bytes")


class PrunedDocument(AnswerDocument):
    """POST /v1/prune-embeddings."""

    dry_run: bool
    spaces: list[PrunedSpaceDocument]


class EffectDocument(AnswerDocument):
    """What a change of dimension does, or did."""

    from_dim: int = Field(alias="from")
    to_dim: int = Field(alias="to")
    vectors_discarded: int
    chunks_to_embed: int
    estimated_tokens: int | None = None
    estimated_cost: str | None = None
    currency: str = "USD"


class HeldDocument(EffectDocument):
    """A change that waits for consent."""

    provider: str
    message: str = ""
    since: datetime | None = None


class MarkerDocument(AnswerDocument):
    """A consent that was recorded."""

    id: int
    target_dim: int
    state: str
    provider: str | None = None
    created_by: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


class ConsentsDocument(AnswerDocument):
    """GET /admin/embedding-dimension-change."""

    held: list[HeldDocument]
    markers: list[MarkerDocument]


class RecordedDocument(AnswerDocument):
    """POST /admin/embedding-dimension-change."""

    id: int
    target_dim: int
    expires_at: datetime | None = None
    matches_held_change: bool
    effect: EffectDocument | None = None


class OverviewDocument(AnswerDocument):
    """GET /v1/embeddings/status."""

    chunks: int
    active: SpaceDocument | None = None
    semantic_status: str
    spaces: list[SpaceDocument]
    jobs: list[JobDocument] = Field(default_factory=list)
    held: list[HeldDocument] = Field(default_factory=list)


class ActivityDocument(AnswerDocument):
    """One thing that happened."""

    id: int
    at: datetime
    actor: str
    origin: str = ""
    kind: str
    subject: str
    detail: dict[str, Any] = Field(default_factory=dict)


class ActivitiesDocument(AnswerDocument):
    """GET /activity, newest first."""

    activities: list[ActivityDocument]
    next_before: int | None = None
