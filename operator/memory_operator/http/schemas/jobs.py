"""What the routes of jobs answer with."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from memory_operator.http.schemas.answers import AnswerModel, JobAnswer, Money


class JobsAnswer(AnswerModel):
    """Jobs, newest first."""

    jobs: list[JobAnswer]
    next_before: int | None = Field(description="Give it as `before` for the next page.")


class EstimateAnswer(AnswerModel):
    """What a job of one space would take."""

    chunks: int = Field(description="Live chunks.")
    already_there: int = Field(description="Chunks that keep the vector they have.")
    copied: int = Field(description="Chunks that are given the vector of an equal text, which costs nothing.")
    to_embed: int = Field(description="Texts that are sent.")
    estimated_tokens: int
    estimated_cost: Money | None = Field(description="US dollars, exact; null where the Provider declares no price.")
    currency: Literal["USD"] = "USD"
    estimated_seconds: int | None = Field(description="At the rate of the last job; null where there was none.")
    too_large: int = Field(description="Chunks above 65,536 bytes: they go to quarantine.")


class PlannedAnswer(AnswerModel):
    """One space that is, or would be, filled."""

    embedding_version: str
    provider: str
    estimate: EstimateAnswer | None = Field(description="In a dry run only.")
    job: JobAnswer | None = Field(description="Null where nothing is to be done, and in a dry run.")
    retried: int = Field(description="Chunks in quarantine that are, or would be, tried again.")


class BegunAnswer(AnswerModel):
    """What was begun, or would be."""

    dry_run: bool
    project: str | None
    spaces: list[PlannedAnswer]
    reindex: JobAnswer | None = Field(description="The job that cuts memories anew; what is new is filled behind it.")
    memories: int | None = Field(description="Memories that a reindex looks at.")
    outdated: int | None = Field(description="Those of them that were cut by another version of the rules.")
