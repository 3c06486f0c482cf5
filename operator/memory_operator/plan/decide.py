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
    owner: str
    owner_is_live: bool
    """Whether another Provider, which exists, has it as its applied space or the one beside."""
    owner_is_older: bool


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Another, older Provider has this very space."""

    owner: str


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
    """Replace the applied space by one of another dimension; its vectors, if any, were consented away."""

    marker_id: int | None
    existing_id: int | None


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
    """Compare desired with applied (§3, §4).

    `consent` is what was found for the desired dimension; it matters only where vectors would be discarded.
    """
    config = desired.config
    if applied and applied.config.identity == config.identity:
        return Keep(refresh=applied.config != config, redistance=applied.distance != config.distance)
    if existing and existing.owner_is_live and existing.owner_is_older:
        return Duplicate(existing.owner)
    existing_id = existing.space_id if existing else None
    if beside and beside.config.identity == config.identity:
        existing_id = beside.space_id
    if applied is None:
        return Create(existing_id)
    if applied.config.dimensions == config.dimensions or desired.dimension_change == "Shadow":
        return Beside(existing_id)
    if applied.vectors == 0:
        return Reshape(None, existing_id)
    if consent.marker is not None:
        return Reshape(consent.marker.id, existing_id)
    return Hold(consent.word)
