"""One-shot consent: which marker opens the gate, and what is said when none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Serves = Literal["any", "this", "other"]
MarkerState = Literal["valid", "consumed", "expired", "withdrawn"]

CONSENT_PATH = "/admin/embedding-dimension-change"


@dataclass(frozen=True, slots=True)
class Marker:
    """One row of the consent table."""

    id: int
    target_dim: int
    provider: str | None
    """`namespace/name`; None means the one Provider held at that dimension."""
    created_at: datetime
    created_by: str
    expires_at: datetime
    state: MarkerState
    """What became of it, by the database's clock."""
    consumed_at: datetime | None = None
    consumed_by: str | None = None
    withdrawn_at: datetime | None = None
    serves: Serves = "any"
    """Whether it serves the change that is looked at, another one, or the first that begins."""


@dataclass(frozen=True, slots=True)
class Consent:
    """The outcome of looking for a marker: the one that allows the change, or the word for why there is none."""

    marker: Marker | None
    word: str
    """For `marker=`: none, another dimension, expired, used, ambiguous; empty when there is a marker."""


def look_for_consent(markers: Sequence[Marker], provider: str, target_dim: int, held_there: int) -> Consent:
    """Find the marker that allows `provider` to change to `target_dim`.

    `held_there` counts the Providers whose change to that dimension waits, this one included: a marker that names
    no Provider is for the only one. One that serves another change opens nothing here.
    """
    ours = sorted(
        (m for m in markers if m.provider in (None, provider) and (m.serves != "other" or m.state != "valid")),
        key=lambda m: (m.created_at, m.id),
        reverse=True,
    )
    valid = [marker for marker in ours if marker.target_dim == target_dim and marker.state == "valid"]
    for marker in valid:
        if marker.serves == "this" or marker.provider is not None or held_there <= 1:
            return Consent(marker, "")
    return Consent(None, "ambiguous" if valid else _word(ours, target_dim))


def _word(newest_first: Sequence[Marker], target_dim: int) -> str:
    words = {"consumed": "used", "expired": "expired"}
    for marker in newest_first:
        if marker.state == "valid":
            return str(marker.target_dim)
        if marker.target_dim == target_dim and marker.state in words:
            return words[marker.state]
    return "none"


def consent_message(from_dim: int, to_dim: int, vectors: int, word: str) -> str:
    """The text that a held change is known by, in logs, conditions and answers."""
    insert = "INSERT INTO memory_embedding_dim_change_consent (target_dim) VALUES"
    return (
        f"memory: changing the embedding dimension to {to_dim} would discard existing embeddings and requires"
        f" one-shot consent (from={from_dim} vectors={vectors} marker={word}); record it via"
        f' POST {CONSENT_PATH} {{"target_dim":{to_dim}}} or {insert} ({to_dim})'
    )
