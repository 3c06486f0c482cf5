"""Jobs: what to begin, what it would take, and how it goes."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, model_validator

from memory_operator.engine.admin.jobs import Begun
from memory_operator.engine.admin.start_job import JobEstimate, Planned
from memory_operator.engine.spaces.progress import JobView
from memory_operator.http.schemas.base import AnswerModel, Body, Money, Name, ProviderName
from memory_operator.store.jobs.skipped import Skipped

ANOTHER_TENANTS = "(another tenant's)"


class ReindexBody(Body):
    """Which memories to cut anew, or which space to fill."""

    project: Name | None = Field(default=None, description="Only this project of the tenant; all of them if left out.")
    embedding_version: Name | None = Field(
        default=None, description="A space: no memory is cut anew, and what is missing there is filled."
    )
    provider: ProviderName | None = Field(default=None, description="namespace/name of a Provider: the same.")
    dry_run: bool = Field(default=False, description="Say what it would take; nothing is begun or written.")

    @model_validator(mode="after")
    def _at_most_one(self) -> ReindexBody:
        if self.embedding_version is not None and self.provider is not None:
            raise ValueError("give embedding_version or provider, or neither")
        return self


MOST_ROWS = 2**53
MOST_SLEEP_MS = 60_000


class ReembedBody(ReindexBody):
    """Which spaces to fill: those of a Provider, one by its name, or all that the caller may fill."""

    embedding_version: Name | None = Field(default=None, description="Only this space.")
    provider: ProviderName | None = Field(default=None, description="namespace/name; only this Provider's spaces.")
    replace: bool = Field(
        default=False, description="Also chunks that have a vector; each is there until the new one is."
    )
    max_rows: int | None = Field(
        default=None, ge=1, le=MOST_ROWS, description="Chunks of each space at most, the oldest first; all if left out."
    )
    sleep_ms: int = Field(
        default=0, ge=0, le=MOST_SLEEP_MS, description="How long each worker waits between two calls of the job."
    )


class JobAnswer(AnswerModel):
    """One job: a walk over chunks that makes vectors of one space, or over memories that makes their chunks anew."""

    id: int
    kind: Literal["fill", "reembed", "reindex"]
    embedding_version: str | None = Field(description="Null for a reindex, which is about all spaces.")
    provider: str | None
    project: str | None = Field(description="Null: the whole store. Of another tenant it is not named.")
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
    max_rows: int | None = Field(description="It ends after so many chunks, the oldest first; null: all of them.")
    sleep_ms: int = Field(description="How long each worker waits between two of its calls.")
    created_at: datetime
    first_call_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, view: JobView, tenant: str) -> JobAnswer:
        """One job as the API shows it to a caller of a tenant."""
        named = view.named
        foreign = named.tenant is not None and named.tenant != tenant
        shown = {
            "embedding_version": named.embedding_version,
            "provider": None if named.ref is None else str(named.ref),
            "project": ANOTHER_TENANTS if foreign else named.project,
            "rate": None if view.rate is None else round(view.rate, 1),
            "eta_seconds": view.eta_seconds,
            "currency": "USD",
        }
        stored = {name: getattr(named.job, name) for name in cls.model_fields if name not in shown}
        return cls.model_validate(shown | stored)


class JobsAnswer(AnswerModel):
    """Jobs, newest first."""

    jobs: list[JobAnswer]
    next_before: int | None = Field(description="Give it as `before` for the next page.")


class EstimateAnswer(AnswerModel):
    """What a job of one space would take."""

    chunks: int = Field(description="Live chunks.")
    already_there: int = Field(description="Chunks that keep the vector they have.")
    pending: int = Field(description="Chunks that wait for the embedder in any case; the job leaves them alone.")
    copied: int = Field(description="Chunks that are given the vector of an equal text, which costs nothing.")
    to_embed: int = Field(description="Texts that are sent.")
    estimated_tokens: int
    estimated_cost: Money | None = Field(description="US dollars, exact; null where the Provider declares no price.")
    currency: Literal["USD"] = "USD"
    estimated_seconds: int | None = Field(description="At the rate of the last job; null where there was none.")
    too_large: int = Field(description="Chunks above 65,536 bytes: they are skipped, and keep the vector they have.")

    @classmethod
    def of(cls, estimate: JobEstimate) -> EstimateAnswer:
        """What a job of one space would take."""
        counted = estimate.counted
        return cls(
            chunks=counted.chunks,
            already_there=counted.already_there,
            pending=counted.pending,
            copied=counted.copied,
            to_embed=counted.to_embed,
            estimated_tokens=counted.tokens,
            estimated_cost=estimate.cost,
            estimated_seconds=estimate.seconds,
            too_large=counted.too_large,
        )


class PlannedAnswer(AnswerModel):
    """One space that is, or would be, filled."""

    embedding_version: str
    provider: str
    model: str | None
    dimensions: int
    remote: bool = Field(description="Whether texts are sent to a vendor; false: embedded in processes of ours.")
    last_error: str | None = Field(description="In a dry run: why the embedder gives no vectors at the moment.")
    estimate: EstimateAnswer | None = Field(description="In a dry run only.")
    job: JobAnswer | None = Field(description="Null where nothing is to be done, and in a dry run.")
    retried: int = Field(description="Chunks in quarantine that are, or would be, tried again.")

    @classmethod
    def of(cls, planned: Planned, tenant: str) -> PlannedAnswer:
        """One space of a request."""
        return cls(
            embedding_version=planned.space.embedding_version,
            provider=str(planned.space.ref),
            model=planned.space.config.model or None,
            dimensions=planned.space.dimensions,
            remote=planned.remote,
            last_error=None if planned.estimate is None else planned.estimate.last_error,
            estimate=None if planned.estimate is None else EstimateAnswer.of(planned.estimate),
            job=None if planned.job is None else JobAnswer.of(planned.job, tenant),
            retried=planned.retried,
        )


class StoredAnswer(AnswerModel):
    """What the project, or the whole store, has before anything is done."""

    chunks: int = Field(description="Live ones.")
    memories: int = Field(description="Live ones.")
    dimensions: list[int] = Field(description="Of the vectors of the whole store, each once.")


class BegunAnswer(AnswerModel):
    """What was begun, or would be."""

    dry_run: bool
    project: str | None
    stored: StoredAnswer | None = Field(description="In a dry run only.")
    spaces: list[PlannedAnswer]
    reindex: JobAnswer | None = Field(description="The job that cuts memories anew; what is new is filled behind it.")
    memories: int | None = Field(description="Memories that a reindex looks at.")
    outdated: int | None = Field(description="Those of them that were cut by another version of the rules.")

    @classmethod
    def of(cls, begun: Begun, body: ReindexBody, tenant: str) -> BegunAnswer:
        """What a request has begun, or would begin."""
        return cls(
            dry_run=body.dry_run,
            project=body.project,
            stored=None if begun.there is None else StoredAnswer.model_validate(asdict(begun.there)),
            spaces=[PlannedAnswer.of(each, tenant) for each in begun.spaces],
            reindex=None if begun.reindex is None else JobAnswer.of(begun.reindex, tenant),
            memories=None if begun.scope is None else begun.scope.memories,
            outdated=None if begun.scope is None else begun.scope.outdated,
        )


class SkippedChunkAnswer(AnswerModel):
    """A chunk that a job skipped."""

    id: str = Field(description="As of a chunk in quarantine.")
    memory: UUID
    project: str
    chunk: int = Field(description="Its number in the memory, from 0.")
    reason: str
    quarantined: bool = Field(description="False where it has a vector: the one it had, or a newer one.")

    @classmethod
    def of(cls, found: Skipped) -> SkippedChunkAnswer:
        """One skipped chunk as the API shows it."""
        return cls(
            id=f"{found.chunk_id}.{found.space_id}",
            memory=found.memory_id,
            project=found.project,
            chunk=found.ordinal,
            reason=found.reason,
            quarantined=found.quarantined,
        )


class SkippedAnswer(AnswerModel):
    """Chunks that a job skipped, by id."""

    skipped: list[SkippedChunkAnswer]
    next_after: int | None = Field(description="Give it as `after` for the next page.")
