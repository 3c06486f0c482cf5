"""Answers of servers that are older, newer, or no memory API at all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from memory_operator.client.errors import MisunderstoodError
from memory_operator.client.server.reading import AnswerDocument, read


class InnerDocument(AnswerDocument):
    at: datetime
    note: str | None = None


class OuterDocument(AnswerDocument, from_dim="from"):
    from_dim: int
    coverage: float = 1.0
    active: bool = False
    inner: tuple[InnerDocument, ...] = ()
    detail: dict[str, Any] | None = None


def test_an_answer_is_read_with_its_parts_and_what_is_unknown_is_passed_over() -> None:
    found = read(OuterDocument, {"from": 8, "coverage": 0, "new": [1], "inner": [{"at": "2026-01-31T12:00:00Z"}]})
    assert (found.from_dim, found.coverage, found.active, found.detail) == (8, 0, False, None)
    assert [(one.at, one.note) for one in found.inner] == [(datetime(2026, 1, 31, 12, tzinfo=UTC), None)]


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ([], "the whole of it"),
        ({}, "from"),
        ({"from": None}, "from"),
        ({"from": True}, "from"),
        ({"from": "8"}, "from"),
        ({"from": 8, "active": 1}, "active"),
        ({"from": 8, "coverage": "all"}, "coverage"),
        ({"from": 8, "inner": {}}, "inner"),
        ({"from": 8, "inner": [{"at": "soon"}]}, "inner.0.at"),
        ({"from": 8, "inner": [{"at": "2026-01-31", "note": 3}]}, "inner.0.note"),
        ({"from": 8, "detail": []}, "detail"),
    ],
)
def test_what_is_not_as_expected_is_named_by_its_place(document: Any, where: str) -> None:
    with pytest.raises(MisunderstoodError, match=rf"\(at {where}\)"):
        read(OuterDocument, document)
