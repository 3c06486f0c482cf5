"""Consent: a marker to record, what is held, and what became of markers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from memory_operator.http.schemas.base import AnswerModel, Body, Money, ProviderName
from memory_operator.plan.consent import Marker, MarkerState
from memory_operator.store.spaces.providers import PendingChange


class ConsentBody(Body):
    """One-shot consent to a change of dimension."""

    target_dim: int = Field(description="The exact dimension that the held Provider asks for.")
    provider: ProviderName | None = Field(default=None, description="namespace/name; needed where several are held.")
    ttl_seconds: int = Field(default=86_400, ge=60, le=2_592_000, description="How long the consent is valid.")


class EffectAnswer(AnswerModel):
    """What a held change would do."""

    from_dim: int = Field(serialization_alias="from")
    to_dim: int = Field(serialization_alias="to")
    vectors_discarded: int
    chunks_to_embed: int
    estimated_tokens: int
    estimated_cost: Money | None
    currency: str


class HeldAnswer(EffectAnswer):
    """A change that waits for consent."""

    provider: str
    since: datetime
    message: str
    marker: str = Field(description="`waiting`: it has its consent, and the message says why it is not applied yet.")

    doubt: str | None = Field(description="Why no consent could help, where that is known before a call.")

    @classmethod
    def of(cls, change: PendingChange) -> HeldAnswer:
        """One held change."""
        effect = EffectAnswer.model_validate(change.effect)
        told = {name: getattr(change, name) for name in ("since", "message", "marker", "doubt")}
        return cls(**dict(effect), provider=str(change.ref), **told)


class MarkerAnswer(AnswerModel):
    """One consent."""

    id: int
    target_dim: int
    state: MarkerState
    provider: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime
    consumed_at: datetime | None
    consumed_by: str | None
    withdrawn_at: datetime | None

    @classmethod
    def of(cls, marker: Marker) -> MarkerAnswer:
        """One marker, with what became of it."""
        return cls.model_validate({name: getattr(marker, name) for name in cls.model_fields})


class ConsentsAnswer(AnswerModel):
    """What waits for consent, and the newest markers."""

    held: list[HeldAnswer]
    markers: list[MarkerAnswer]


class RecordedAnswer(AnswerModel):
    """A consent that was recorded."""

    status: Literal["consent recorded"] = "consent recorded"
    target_dim: int
    id: int
    expires_at: datetime
    matches_held_change: bool
    effect: EffectAnswer | None
    provider: str = Field(description="The one Provider that it is for.")
