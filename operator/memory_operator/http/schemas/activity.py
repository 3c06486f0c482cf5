"""What happened, and how much there is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from memory_operator.http.schemas.base import AnswerModel


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
