"""What a sweep takes, what it has begun, and what it skipped."""

from __future__ import annotations

from memory_operator.client.server.reading import AnswerDocument
from memory_operator.client.server.schemas import JobDocument


class EstimateDocument(AnswerDocument):
    """What a job of one space would take."""

    chunks: int
    already_there: int
    copied: int
    to_embed: int
    estimated_tokens: int
    estimated_cost: str | None = None
    currency: str = "USD"
    estimated_seconds: float | None = None
    too_large: int = 0
    pending: int = 0


class PlannedDocument(AnswerDocument):
    """One space that is filled, or would be."""

    embedding_version: str
    provider: str
    model: str | None = None
    dimensions: int | None = None
    remote: bool = True
    last_error: str | None = None
    estimate: EstimateDocument | None = None
    job: JobDocument | None = None
    retried: int = 0


class StoredDocument(AnswerDocument):
    """What there is before a sweep."""

    chunks: int
    memories: int
    dimensions: tuple[int, ...]


class BegunDocument(AnswerDocument):
    """POST /v1/reembed and /v1/reindex."""

    dry_run: bool
    stored: StoredDocument | None = None
    spaces: tuple[PlannedDocument, ...]
    reindex: JobDocument | None = None
    memories: int | None = None
    outdated: int | None = None


class SkippedChunkDocument(AnswerDocument):
    """A chunk that a job skipped."""

    id: str
    memory: str
    project: str
    chunk: int
    reason: str
    quarantined: bool = True


class SkippedDocument(AnswerDocument):
    """GET /v1/jobs/{id}/skipped, by id."""

    skipped: tuple[SkippedChunkDocument, ...]
    next_after: int | None = None
