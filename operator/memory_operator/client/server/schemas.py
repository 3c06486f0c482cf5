"""The parts of the server's answers that are shown to people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from memory_operator.client.server.comparison_schemas import RehearsalDocument
from memory_operator.client.server.explanation import ExplanationDocument, HitDiagnosticsDocument, RerankDocument
from memory_operator.client.server.project_schemas import ProjectCountsDocument
from memory_operator.client.server.reading import AnswerDocument


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
    tags: tuple[str, ...] = ()
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

    versions: tuple[MemoryDocument, ...]
    next_before_version: int | None = None


class MemoriesDocument(AnswerDocument):
    """GET /v1/memories: current versions, newest first."""

    memories: tuple[MemoryDocument, ...]
    next_before: int | None = None


class HitDocument(AnswerDocument):
    """One result of a query."""

    id: str
    text: str
    score: float
    match_kind: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    diagnostics: HitDiagnosticsDocument = HitDiagnosticsDocument()


class CutDocument(AnswerDocument):
    """How many characters of a long question were used."""

    characters: int
    fulltext: int
    semantic: int


class QueryDiagnosticsDocument(AnswerDocument):
    """How a query was answered."""

    semantic_status: str
    reason: str | None = None
    embedding_version: str | None = None
    coverage: float | None = None
    cut: CutDocument | None = None
    explanation: ExplanationDocument | None = None
    rerank: RerankDocument | None = None


class FoundDocument(AnswerDocument):
    """POST /memory/query."""

    results: tuple[HitDocument, ...]
    diagnostics: QueryDiagnosticsDocument


class SpaceDocument(AnswerDocument):
    """One of GET /v1/embeddings/spaces."""

    embedding_version: str
    provider: str
    model: str | None = None
    dimensions: int
    distance: str | None = None
    index: str | None = None
    create_enabled: bool = True
    state: str
    active: bool
    vectors: int
    chunks: int
    coverage: float
    quarantined: int = 0
    pending: int = 0
    unindexed: int = 0
    trouble: str | None = None
    kept_until: datetime | None = None
    kept_tokens: int = 0
    kept_cost: str | None = None
    cost_per_1k: str | None = None

    @property
    def in_use(self) -> bool:
        """Whether its Provider asks for it."""
        return self.state in ("filling", "ready")


class WaitingDocument(AnswerDocument):
    """A Provider that waits for something to be put right."""

    provider: str
    phase: str = "Pending"
    reason: str
    message: str

    @property
    def begins(self) -> bool:
        """Nothing is wrong: it is looked at for the first time."""
        return self.reason == "Pending"


class SpacesDocument(AnswerDocument):
    """GET /v1/embeddings/spaces."""

    spaces: tuple[SpaceDocument, ...]
    project: ProjectCountsDocument | None = None
    selection_waits: str | None = None
    without_space: tuple[WaitingDocument, ...] = ()
    not_applied: tuple[WaitingDocument, ...] = ()
    temporary: tuple[RehearsalDocument, ...] = ()

    @property
    def refused(self) -> list[WaitingDocument]:
        """Providers whose present spec is not applied, but for those whose embedder is in trouble anyway."""
        troubled = {space.provider for space in self.spaces if space.trouble}
        return [each for each in self.not_applied if each.provider not in troubled]


class ActivatedDocument(AnswerDocument):
    """POST /v1/embeddings/activate."""

    space: SpaceDocument


class CreateEnabledDocument(AnswerDocument):
    """POST /v1/embeddings/create-enabled."""

    status: str
    embedding_version: str


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


class QuarantinedDocument(AnswerDocument):
    """A chunk that an embedder refuses."""

    id: str
    memory: str
    project: str
    chunk: int
    embedding_version: str
    reason: str
    attempts: int
    since: datetime
    retry_at: datetime | None = None


class QuarantineDocument(AnswerDocument):
    """GET /v1/embeddings/quarantine, newest first."""

    quarantined: tuple[QuarantinedDocument, ...]
    next_before: str | None = None


class RetriedDocument(AnswerDocument):
    """POST /v1/embeddings/quarantine/retry."""

    retried: int


class EffectDocument(AnswerDocument, from_dim="from", to_dim="to"):
    """What a change of dimension does, or did."""

    from_dim: int
    to_dim: int
    vectors_discarded: int
    chunks_to_embed: int
    estimated_tokens: int | None = None
    estimated_cost: str | None = None
    currency: str = "USD"


class HeldDocument(EffectDocument):
    """A change that waits for consent."""

    provider: str
    message: str = ""
    marker: str = ""
    doubt: str | None = None
    since: datetime | None = None

    @property
    def has_consent(self) -> bool:
        """Whether it has its consent, and the message says why it is not applied yet."""
        return self.marker == "waiting"


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

    held: tuple[HeldDocument, ...]
    markers: tuple[MarkerDocument, ...]


class RecordedDocument(AnswerDocument):
    """POST /admin/embedding-dimension-change."""

    id: int
    target_dim: int
    expires_at: datetime | None = None
    matches_held_change: bool
    provider: str | None = None
    effect: EffectDocument | None = None


class OverviewDocument(AnswerDocument):
    """GET /v1/embeddings/status."""

    chunks: int
    active: SpaceDocument | None = None
    semantic_status: str
    spaces: tuple[SpaceDocument, ...]
    jobs: tuple[JobDocument, ...] = ()
    held: tuple[HeldDocument, ...] = ()


class ActivityDocument(AnswerDocument):
    """One thing that happened."""

    id: int
    at: datetime
    actor: str
    origin: str = ""
    kind: str
    subject: str
    detail: dict[str, Any] | None = None


class ActivitiesDocument(AnswerDocument):
    """GET /activity, newest first."""

    activities: tuple[ActivityDocument, ...]
    next_before: int | None = None


class JobsDocument(AnswerDocument):
    """GET /v1/jobs, newest first."""

    jobs: tuple[JobDocument, ...]
    next_before: int | None = None


class UsedDocument(AnswerDocument):
    """Calls and what they used."""

    group: str = ""
    calls: int
    unanswered_calls: int = 0
    inputs: int
    tokens: int
    uncounted_tokens: int = 0
    cost: str | None = None
    currency: str = "USD"


class UsageDocument(AnswerDocument, since="from", until="to"):
    """GET /v1/usage."""

    since: str
    until: str
    tenant: str | None = None
    groups: tuple[UsedDocument, ...]
    total: UsedDocument
