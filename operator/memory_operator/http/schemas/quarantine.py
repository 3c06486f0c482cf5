"""Chunks that embedders refuse: listed with the reason, and tried once more."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from memory_operator.http.schemas.base import AnswerModel, Body
from memory_operator.store.jobs.quarantine import Quarantined

_MOST = 2**63


def chunk_and_space(text: str) -> tuple[int, int]:
    """The numbers in an id. Raises ValueError."""
    chunk, _, space = text.partition(".")
    if not (text.isascii() and chunk.isdecimal() and space.isdecimal() and max(int(chunk), int(space)) < _MOST):
        raise ValueError("must be an id as the list shows it")
    return int(chunk), int(space)


def _checked(text: str) -> str:
    chunk_and_space(text)
    return text


QuarantineId = Annotated[str, Field(max_length=39), AfterValidator(_checked)]


class RetryBody(Body):
    """Which refused chunks to try once more."""

    ids: list[QuarantineId] = Field(min_length=1, max_length=1_000, description="As the list shows them.")


class QuarantinedAnswer(AnswerModel):
    """A chunk that an embedder refuses."""

    id: str
    memory: UUID
    project: str
    version_no: int
    chunk: int = Field(description="Its number in the memory, from 0.")
    embedding_version: str
    provider: str
    reason: str
    attempts: int
    since: datetime
    retry_at: datetime | None = Field(description="When it is tried again by itself; null: never.")

    @classmethod
    def of(cls, found: Quarantined) -> QuarantinedAnswer:
        """One refused chunk as the API shows it."""
        return cls(
            id=f"{found.chunk_id}.{found.space_id}",
            memory=found.memory_id,
            project=found.project,
            version_no=found.version_no,
            chunk=found.ordinal,
            embedding_version=found.embedding_version,
            provider=f"{found.namespace}/{found.provider}",
            reason=found.reason,
            attempts=found.attempts,
            since=found.since,
            retry_at=found.retry_at,
        )


class QuarantineAnswer(AnswerModel):
    """Refused chunks, newest first."""

    quarantined: list[QuarantinedAnswer]
    next_before: str | None = Field(description="Give it as `before` for the next page.")


class RetriedAnswer(AnswerModel):
    """How many chunks are tried once more."""

    retried: int
