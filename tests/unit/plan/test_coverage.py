"""Coverage: vectors over what could have one."""

from __future__ import annotations

import pytest

from memory_operator.plan.coverage import coverage, shown


def test_quarantined_chunks_are_not_missing_and_a_store_without_chunks_is_covered() -> None:
    assert coverage(19_999, 20_000, 1) == 1.0
    assert coverage(0, 0, 0) == 1.0
    assert coverage(1, 4, 2) == 0.5


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, 0.0), (0.12344, 0.1234), (0.29, 0.29), (0.999_99, 0.9999), (1.0, 1.0)]
)
def test_what_is_shown_is_1_only_when_nothing_is_missing(share: float, text: float) -> None:
    assert shown(share) == text
