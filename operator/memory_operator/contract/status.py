"""The status of a Provider: phase, conditions, and the figures of its space."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Phase(StrEnum):
    """One word for people; the conditions say why."""

    PENDING = "Pending"
    READY = "Ready"
    REEMBEDDING = "Reembedding"
    HELD = "Held"
    ERROR = "Error"
    UNAVAILABLE = "Unavailable"


class ConditionType(StrEnum):
    """What is judged."""

    READY = "Ready"
    CREDENTIAL_RESOLVED = "CredentialResolved"
    REACHABLE = "Reachable"
    DIMENSION_SETTLED = "DimensionSettled"
    POPULATED = "Populated"
    ACTIVE = "Active"
    RERANKING = "Reranking"
    MODEL_RETIRED = "ModelRetired"
    MODEL_DRIFTED = "ModelDrifted"


class Reason(StrEnum):
    """Why a condition is what it is."""

    READY = "Ready"
    PENDING = "Pending"
    INVALID_SPEC = "InvalidSpec"
    UNSUPPORTED_TYPE = "UnsupportedType"
    NAMESPACE_NOT_SERVED = "NamespaceNotServed"
    DUPLICATE_SPACE = "DuplicateSpace"
    RESOLVED = "Resolved"
    SECRET_MISSING = "SecretMissing"
    CREDENTIAL_CHANGED_WHILE_HELD = "CredentialChangedWhileHeld"
    SECRET_UNREADABLE = "SecretUnreadable"
    ANSWERED = "Answered"
    EMBEDDER_UNREACHABLE = "EmbedderUnreachable"
    RERANKER_UNREACHABLE = "RerankerUnreachable"
    CREDENTIAL_REFUSED = "CredentialRefused"
    REQUEST_REJECTED = "RequestRejected"
    SETTLED = "Settled"
    CONSENT_REQUIRED = "ConsentRequired"
    DIMENSION_MISMATCH = "DimensionMismatch"
    DIMENSION_ABOVE_LIMIT = "DimensionAboveLimit"
    WAITING_FOR_LOCK = "WaitingForLock"
    FILLED = "Filled"
    FILLING = "Filling"
    FILL_PAUSED = "FillPaused"
    FILL_CANCELLED = "FillCancelled"
    BUDGET_REACHED = "BudgetReached"
    RATE_LIMITED = "RateLimited"
    NO_SPACE = "NoSpace"
    ACTIVE = "Active"
    NOT_ACTIVE = "NotActive"
    GATE_NOT_PASSED = "GateNotPassed"
    MODEL_GONE = "ModelGone"
    OTHER_VECTORS = "OtherVectors"
    AS_BEFORE = "AsBefore"


FAULTS = (ConditionType.MODEL_RETIRED, ConditionType.MODEL_DRIFTED)
"""Conditions that are there only where something is wrong, and say so with True."""


class StatusModel(BaseModel):
    """A value written into the status subresource."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class Condition(StatusModel):
    """One condition, as Kubernetes tools expect it."""

    type: str = Field(description="What is judged.")
    status: Literal["True", "False", "Unknown"] = Field(description="The judgement.")
    reason: str = Field(description="Why, in one word.")
    message: str = Field(default="", description="Why, and what to do.")
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: int | None = Field(default=None, description="The generation that was judged.")


class EmbeddingStatus(StatusModel):
    """The figures of a Provider's space."""

    embedding_version: str | None = Field(default=None, description="Name of the applied space.")
    applied_dimensions: int | None = Field(default=None, description="Dimension of the applied space.")
    desired_dimensions: int | None = Field(default=None, description="Dimension that the spec asks for.")
    vectors: int = Field(default=0, description="Vectors in the space that is being filled, else in the applied one.")
    chunks: int = Field(default=0, description="Live chunks in the store.")
    coverage: float = Field(default=0.0, description="Share of the live chunks that have a vector, 0 to 1.")
    quarantined: int = Field(default=0, description="Chunks that the embedder refuses.")
    active: bool = Field(default=False, description="Whether queries read the applied space.")
    index: str | None = Field(default=None, description="Index of the applied space that queries use, or none.")
    index_reason: str | None = Field(default=None, description="Why it is this one.")
    way_back: str | None = Field(
        default=None, description="Name of a replaced space that still gets new memories: activate leads back at once."
    )
    kept_until: datetime | None = Field(default=None, description="Until when.")
    kept_tokens: int | None = Field(default=None, description="Tokens that this has taken.")
    kept_cost: str | None = Field(default=None, description="What this has cost in US dollars, a decimal.")
    activate: str | None = Field(default=None, description="Value of memory-operator/activate that was acted on last.")
    activate_result: str | None = Field(default=None, description="Done, or Refused.")
    activate_message: str | None = Field(default=None, description="What it did, or why it was refused, and who asked.")
    eta_seconds: int | None = Field(default=None, description="Seconds until the fill is done.")
    estimated_tokens: int | None = Field(default=None, description="Tokens that a held change would take.")
    estimated_cost: str | None = Field(default=None, description="What a held change would cost, a decimal.")
    currency: str | None = Field(default=None, description="Currency of the cost.")
    observed_generation: int | None = Field(default=None, description="The generation that the figures are of.")


class ProviderStatus(StatusModel):
    """All of `status`."""

    phase: Phase = Field(default=Phase.PENDING, description="One word for people; the conditions say why.")
    observed_generation: int | None = Field(default=None, description="The generation that all this is about.")
    conditions: list[Condition] = Field(default_factory=list, description="What is judged, and why.")
    embedding: EmbeddingStatus | None = Field(default=None, description="The figures of the Provider's space.")


def set_condition(conditions: Sequence[Condition], new: Condition, now: datetime) -> tuple[list[Condition], bool]:
    """The conditions with `new` in its place, and whether that changed anything.

    lastTransitionTime is kept while the status stays the same.
    """
    kept = list(conditions)
    for place, old in enumerate(kept):
        if old.type == new.type:
            since = old.last_transition_time if old.status == new.status else now
            kept[place] = new.model_copy(update={"last_transition_time": since})
            return kept, kept[place] != old
    return [*kept, new.model_copy(update={"last_transition_time": now})], True
