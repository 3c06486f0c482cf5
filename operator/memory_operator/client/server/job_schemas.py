"""The parts of the server's answers about jobs and usage that are shown to people."""

from __future__ import annotations

from pydantic import Field

from memory_operator.client.server.schemas import AnswerDocument, JobDocument


class JobsDocument(AnswerDocument):
    """GET /v1/jobs, newest first."""

    jobs: list[JobDocument]
    next_before: int | None = None


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


class PlannedDocument(AnswerDocument):
    """One space that is filled, or would be."""

    embedding_version: str
    provider: str
    estimate: EstimateDocument | None = None
    job: JobDocument | None = None
    retried: int = 0


class BegunDocument(AnswerDocument):
    """POST /v1/reembed and /v1/reindex."""

    dry_run: bool
    spaces: list[PlannedDocument]
    reindex: JobDocument | None = None
    memories: int | None = None
    outdated: int | None = None


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


class UsageDocument(AnswerDocument):
    """GET /v1/usage."""

    since: str = Field(alias="from")
    until: str = Field(alias="to")
    tenant: str | None = None
    groups: list[UsedDocument]
    total: UsedDocument
