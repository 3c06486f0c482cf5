"""Spaces: which one to activate or prune, and how they stand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from memory_operator.engine.admin.spaces import Overview, ProjectCounts, SpaceView, Waiting
from memory_operator.engine.spaces.active import SemanticStatus
from memory_operator.http.schemas.base import AnswerModel, Body, Money, Name, ProviderName
from memory_operator.http.schemas.comparisons import RehearsalAnswer
from memory_operator.http.schemas.consent import HeldAnswer
from memory_operator.http.schemas.jobs import JobAnswer
from memory_operator.plan.index import Built, describe
from memory_operator.store.spaces.spaces import State


class ActivateBody(Body):
    """The space that queries are to read; named by its version or by its Provider."""

    embedding_version: Name | None = Field(default=None, description="Name of a space.")
    provider: ProviderName | None = Field(default=None, description="namespace/name of a Provider.")
    force: bool = Field(default=False, description="Activate although the coverage is below 0.99.")

    @model_validator(mode="after")
    def _one(self) -> ActivateBody:
        if (self.embedding_version is None) == (self.provider is None):
            raise ValueError("give embedding_version or provider")
        return self


class CreateEnabledBody(Body):
    """Whether new memories are embedded for a space."""

    embedding_version: Name | None = Field(default=None, description="Name of the space.")
    provider: ProviderName | None = Field(default=None, description="namespace/name of a Provider.")
    enabled: bool = Field(description="false stops embedding new memories for it.")

    @model_validator(mode="after")
    def _one(self) -> CreateEnabledBody:
        if (self.embedding_version is None) == (self.provider is None):
            raise ValueError("give embedding_version or provider")
        return self


class PruneBody(Body):
    """Which spaces to remove: those that no Provider asks for."""

    dry_run: bool = Field(default=False, description="Say what would be removed, and remove nothing.")


class SpaceAnswer(AnswerModel):
    """One space; no credential, no header, no prefix, no address."""

    embedding_version: str
    provider: str
    type: str
    model: str | None
    dimensions: int
    column_type: Literal["vector", "halfvec"]
    distance: Literal["cosine", "l2", "dot"]
    index: Built = Field(description="The index that queries use.")
    index_reason: str = Field(description="Why it is this one.")
    unindexed: int = Field(
        description="Vectors that the index does not have yet: a query compares them one by one. Counted to 5,001."
    )
    state: State
    active: bool
    vectors: int
    chunks: int = Field(description="Live chunks in the store.")
    coverage: float = Field(description="Vectors ÷ (chunks − quarantined).")
    quarantined: int
    pending: int
    create_enabled: bool
    trouble: str | None = Field(description="Why its embedder gives no vectors at the moment.")
    kept_until: datetime | None = Field(
        description="Until when a space that an edit replaced gets new memories, so that activate leads back at once."
    )
    keep_ended: str | None = Field(description="Why it was kept no longer before that time.")
    kept_tokens: int = Field(description="Tokens that it took while it was kept.")
    kept_cost: Money | None
    cost_per_1k: Money | None
    created_at: datetime

    @classmethod
    def of(cls, view: SpaceView) -> SpaceAnswer:
        """One space as the API shows it."""
        space = view.space
        index, reason = describe(space.index, space.config.index, view.figures.vectors)
        return cls.model_validate(
            {
                "embedding_version": space.embedding_version,
                "provider": str(space.ref),
                "type": space.config.type,
                "model": space.config.model or None,
                "dimensions": space.dimensions,
                "column_type": space.column_type,
                "distance": space.distance,
                "index": index,
                "index_reason": reason,
                "unindexed": view.unindexed,
                "state": space.state,
                "kept_until": space.kept_until if space.kept else None,
                "keep_ended": space.keep_ended,
                "kept_tokens": space.kept_tokens,
                "kept_cost": space.kept_cost,
                "cost_per_1k": space.config.input_cost_per_1k,
                **asdict(view.figures),
                "coverage": view.coverage,
                "create_enabled": space.create_enabled,
                "created_at": space.created_at,
            }
        )


class WaitingAnswer(AnswerModel):
    """A Provider that waits for something to be put right."""

    provider: str
    phase: str
    reason: str
    message: str

    @classmethod
    def of(cls, waiting: Waiting) -> WaitingAnswer:
        """One such Provider."""
        return cls(provider=str(waiting.ref), phase=waiting.phase, reason=waiting.reason, message=waiting.message)


class ProjectInSpaceAnswer(AnswerModel):
    """How much of a project has a vector in a space."""

    embedding_version: str
    chunks: int
    memories: int


class ProjectCountsAnswer(AnswerModel):
    """How much of a project there is, and how much of it each space has."""

    project: str
    chunks: int
    memories: int
    spaces: list[ProjectInSpaceAnswer]

    @classmethod
    def of(cls, counts: ProjectCounts, shown: Collection[str]) -> ProjectCountsAnswer:
        """The counts as the API shows them, of some spaces."""
        return cls(
            project=counts.project,
            **asdict(counts.whole),
            spaces=[
                ProjectInSpaceAnswer(embedding_version=version, **asdict(counted))
                for version, counted in counts.by_space.items()
                if version in shown
            ],
        )


class SpacesAnswer(AnswerModel):
    """The spaces, oldest first."""

    spaces: list[SpaceAnswer]
    project: ProjectCountsAnswer | None = Field(default=None, description="Where one is named.")
    selection_waits: str | None = Field(
        default=None, description="Why queries do not read yet what the configuration file says."
    )
    without_space: list[WaitingAnswer] = Field(description="Providers that no space could be made for yet.")
    not_applied: list[WaitingAnswer] = Field(
        description="Providers with a space whose spec, as it is by now, cannot be applied."
    )
    temporary: list[RehearsalAnswer] = Field(description="The caller's rehearsals, which are no spaces.")


class StatusAnswer(AnswerModel):
    """The store at one moment."""

    semantic_status: SemanticStatus
    chunks: int
    active: SpaceAnswer | None
    spaces: list[SpaceAnswer]
    jobs: list[JobAnswer]
    held: list[HeldAnswer]

    @classmethod
    def of(cls, overview: Overview, namespaces: Collection[str], tenant: str) -> StatusAnswer:
        """The store as somebody sees it of a tenant who may look at some namespaces."""
        views = [view for view in overview.views if view.space.ref.namespace in namespaces]
        shown = {view.space.embedding_version for view in views}
        active = next((view for view in views if view.figures.active), None)
        return cls(
            semantic_status=overview.semantic_status,
            chunks=overview.chunks,
            active=SpaceAnswer.of(active) if active else None,
            spaces=[SpaceAnswer.of(view) for view in views],
            jobs=[
                JobAnswer.of(view, tenant)
                for view in overview.jobs
                if view.named.embedding_version in shown or view.named.ref is None
            ],
            held=[HeldAnswer.of(change) for change in overview.held if change.ref.namespace in namespaces],
        )


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
    kept_until: datetime | None = Field(
        description="Until when it could be activated again at once; that way back goes with it."
    )


class PrunedAnswer(AnswerModel):
    """What a prune removed, or would remove."""

    dry_run: bool
    spaces: list[PrunedSpaceAnswer]
