"""The comparison of desired with applied: one pure function, and the plans it can come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from memory_operator.plan.consent import Consent
from memory_operator.plan.space import SpaceConfig


@dataclass(frozen=True, slots=True)
class Desired:
    """What the Provider says now, with its dimension resolved."""

    config: SpaceConfig
    dimension_change: Literal["InPlace", "Shadow"] = "InPlace"


@dataclass(frozen=True, slots=True)
class SpaceNow:
    """A space that a Provider has: the applied one, or the one beside it."""

    space_id: int
    config: SpaceConfig
    distance: str
    vectors: int


@dataclass(frozen=True, slots=True)
class Existing:
    """A space of the desired identity that is there already, but is neither the applied one nor the one beside."""

    space_id: int
    owner: str | None = None
    """The other live Provider that it belongs to: who has it, or where nobody does, who asked first."""
    owner_wants_ours: bool = False
    """Whether that one asks for the space that this one has."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Another live Provider has this very space."""

    owner: str
    swap: bool
    """Whether each of the two asks for the space of the other."""


@dataclass(frozen=True, slots=True)
class Create:
    """The Provider has no space yet: make one, or take over one that was left behind."""

    existing_id: int | None


@dataclass(frozen=True, slots=True)
class Keep:
    """The applied space is the desired one; only what does not make a space may differ."""

    refresh: bool
    redistance: bool


@dataclass(frozen=True, slots=True)
class Beside:
    """Fill another space beside the applied one, which goes on answering."""

    existing_id: int | None


@dataclass(frozen=True, slots=True)
class Reshape:
    """Replace the applied space by a new one of another dimension; its vectors, if any, were consented away."""

    marker_id: int | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for consent."""

    word: str


Plan: TypeAlias = Duplicate | Create | Keep | Beside | Reshape | Hold


def decide(
    desired: Desired,
    applied: SpaceNow | None,
    beside: SpaceNow | None,
    existing: Existing | None,
    consent: Consent,
) -> Plan:
    """Compare desired with applied.

    `consent` is what was found for the desired dimension; it matters only where vectors would be discarded. They are
    not where the desired space is still there, however full: what it lacks is filled beside the applied one.
    """
    config = desired.config
    if applied and applied.config.identity == config.identity and not _began_for_query_prefix(config, applied, beside):
        return Keep(refresh=applied.config != config, redistance=applied.distance != config.distance)
    if beside and beside.config.identity == config.identity:
        existing_id: int | None = beside.space_id
    elif existing and existing.owner is not None:
        return Duplicate(existing.owner, existing.owner_wants_ours)
    else:
        existing_id = existing.space_id if existing else None
    if applied is None:
        return Create(existing_id)
    discards = applied.config.dimensions != config.dimensions and desired.dimension_change == "InPlace"
    if existing_id is not None or not discards:
        return Beside(existing_id)
    if applied.vectors == 0:
        return Reshape(None)
    if consent.marker is not None:
        return Reshape(consent.marker.id)
    return Hold(consent.word)


def _began_for_query_prefix(config: SpaceConfig, applied: SpaceNow, beside: SpaceNow | None) -> bool:
    """Whether release 0.1 began a space beside for another query prefix: that is gone on with, not thrown away."""
    if beside is None or beside.config.identity != config.identity:
        return False
    return applied.config.query_prefix != config.query_prefix == beside.config.query_prefix
