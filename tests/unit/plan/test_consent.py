"""Which marker opens the gate, and what is said when none does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memory_operator.plan.consent import Marker, consent_message, look_for_consent

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
OURS = "agents/memory"


def marker(number: int, target: int = 768, provider: str | None = None, **changes: Any) -> Marker:
    """A valid marker, the newer the higher its number."""
    made = NOW - timedelta(minutes=60 - number)
    state = changes.pop("state", "valid")
    return Marker(number, target, provider, made, "somebody", NOW + timedelta(hours=1), state, **changes)


def word(*markers: Marker, held: int = 1) -> str:
    found = look_for_consent(markers, OURS, 768, held)
    return str(found.marker.id) if found.marker else found.word


@pytest.mark.parametrize(
    ("markers", "expected"),
    [
        ([], "none"),
        ([marker(1)], "1"),
        ([marker(1), marker(2)], "2"),
        ([marker(1, provider=OURS)], "1"),
        ([marker(1, provider="agents/other")], "none"),
        ([marker(1, 512)], "512"),
        ([marker(1), marker(2, 512)], "1"),
        ([marker(1, state="consumed")], "used"),
        ([marker(1, state="withdrawn")], "none"),
        ([marker(1, state="consumed"), marker(2, 512)], "512"),
        ([marker(1, 512, state="consumed")], "none"),
        ([marker(1, state="consumed"), marker(2, 512, state="consumed")], "used"),
    ],
)
def test_the_newest_valid_marker_of_the_dimension_counts_or_a_word_says_why_not(
    markers: list[Marker], expected: str
) -> None:
    assert word(*markers) == expected


def test_an_expired_marker_is_told_as_expired() -> None:
    assert word(marker(1, state="expired")) == "expired"


def test_a_marker_that_serves_another_held_change_opens_nothing_here() -> None:
    assert word(marker(1, serves="other")) == "none"
    assert word(marker(1, provider=OURS, serves="other")) == "none"
    assert word(marker(1, serves="this"), held=2) == "1"


def test_a_bare_marker_is_ambiguous_while_several_are_held_and_a_named_one_is_not() -> None:
    assert word(marker(1), held=2) == "ambiguous"
    assert word(marker(1, provider=OURS), held=2) == "1"
    assert word(marker(1, provider=OURS), marker(2), held=2) == "1"


def test_the_message_is_the_one_that_the_contract_gives() -> None:
    assert consent_message(1536, 768, 120431, "none") == (
        "memory: changing the embedding dimension to 768 would discard existing embeddings and requires one-shot"
        " consent (from=1536 vectors=120431 marker=none); record it via POST /admin/embedding-dimension-change"
        ' {"target_dim":768} or INSERT INTO memory_embedding_dim_change_consent (target_dim) VALUES (768)'
    )
