"""The parts of the server's answers that are shown to people; whatever else is in them is passed over."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memory_operator.client.failures import MisunderstoodError


class Answer(BaseModel):
    """A JSON object of the server, newer or older than this program."""

    model_config = ConfigDict(extra="ignore", frozen=True)


A = TypeVar("A", bound=Answer)


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


class Added(Answer):
    """POST /memory/add and PATCH /memory/{id}."""

    id: str
    project: str
    version_no: int = 1
    embedding_version: str | None = None
    embedding_status: str


class Memory(Answer):
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


class History(Answer):
    """GET /memory/{id}/history: versions, newest first."""

    versions: list[Memory]
    next_before_version: int | None = None


class Hit(Answer):
    """One result of a query."""

    id: str
    text: str
    score: float
    match_kind: str


class QueryDiagnostics(Answer):
    """How a query was answered."""

    semantic_status: str
    reason: str | None = None
    embedding_version: str | None = None
    coverage: float | None = None


class Found(Answer):
    """POST /memory/query."""

    results: list[Hit]
    diagnostics: QueryDiagnostics


class Space(Answer):
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


class Waiting(Answer):
    """A Provider that no space could be made for yet."""

    provider: str
    reason: str
    message: str


class Spaces(Answer):
    """GET /v1/embeddings/spaces."""

    spaces: list[Space]
    without_space: list[Waiting] = Field(default_factory=list)


class Activated(Answer):
    """POST /v1/embeddings/activate."""

    space: Space


class Job(Answer):
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


class PrunedSpace(Answer):
    """A space that was removed, or would be."""

    embedding_version: str
    provider: str
    state: str
    vectors: int
    size_bytes: int = Field(alias="bytes")


class Pruned(Answer):
    """POST /v1/prune-embeddings."""

    dry_run: bool
    spaces: list[PrunedSpace]


class Effect(Answer):
    """What a change of dimension does, or did."""

    from_dim: int = Field(alias="from")
    to_dim: int = Field(alias="to")
    vectors_discarded: int
    chunks_to_embed: int
    estimated_tokens: int | None = None
    estimated_cost: str | None = None
    currency: str = "USD"


class Held(Effect):
    """A change that waits for consent."""

    provider: str
    message: str = ""
    since: datetime | None = None


class Marker(Answer):
    """A consent that was recorded."""

    id: int
    target_dim: int
    state: str
    provider: str | None = None
    created_by: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


class Consents(Answer):
    """GET /admin/embedding-dimension-change."""

    held: list[Held]
    markers: list[Marker]


class Recorded(Answer):
    """POST /admin/embedding-dimension-change."""

    id: int
    target_dim: int
    expires_at: datetime | None = None
    matches_held_change: bool
    effect: Effect | None = None


class Overview(Answer):
    """GET /v1/embeddings/status."""

    chunks: int
    active: Space | None = None
    semantic_status: str
    spaces: list[Space]
    jobs: list[Job] = Field(default_factory=list)
    held: list[Held] = Field(default_factory=list)


class Activity(Answer):
    """One thing that happened."""

    id: int
    at: datetime
    actor: str
    origin: str = ""
    kind: str
    subject: str
    detail: dict[str, Any] = Field(default_factory=dict)


class Activities(Answer):
    """GET /activity, newest first."""

    activities: list[Activity]
    next_before: int | None = None
