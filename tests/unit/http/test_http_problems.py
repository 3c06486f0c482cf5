"""Errors as problem documents."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from memory_operator.errors import (
    BadReply,
    Conflict,
    InvalidInput,
    LockBusy,
    MemoryOperatorError,
    NotFound,
    RateLimited,
    SourceUnavailable,
    StoreUnavailable,
)
from memory_operator.http.problems import Problem, answer, from_error, from_validation


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInput("no"), 400, "invalid_input"),
        (NotFound("no"), 404, "not_found"),
        (Conflict("no"), 409, "conflict"),
        (Conflict("no", code="coverage_below_threshold"), 409, "coverage_below_threshold"),
        (StoreUnavailable("no"), 503, "unavailable"),
        (LockBusy("no"), 503, "unavailable"),
        (SourceUnavailable("no"), 503, "unavailable"),
        (BadReply("no"), 500, "internal"),
    ],
)
def test_each_error_has_its_status_and_a_hint(error: MemoryOperatorError, status: int, code: str) -> None:
    problem = from_error(error)
    assert (problem.status, problem.code) == (status, code)
    assert problem.hint
    assert ("Retry-After" in problem.headers) == (status == 503)


def test_the_hint_of_an_error_is_kept() -> None:
    assert from_error(NotFound("no", hint="look elsewhere")).hint == "look elsewhere"


def test_whoever_may_come_again_is_told_when() -> None:
    assert from_error(RateLimited("no", retry_after=7.2)).headers["Retry-After"] == "8"
    assert from_error(RateLimited("no", retry_after=0)).headers["Retry-After"] == "1"


def test_what_is_ours_alone_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    assert "inner" not in from_error(BadReply("an inner thing")).detail
    assert "an inner thing" in caplog.text


def test_figures_stand_beside_the_members_of_the_rfc_and_never_replace_them() -> None:
    problem = Problem(409, "refused", "no", extra={"coverage": 0.5, "status": 200, "code": "x"})
    document = json.loads(bytes(answer(problem, "id-1").body))
    assert (document["coverage"], document["status"], document["code"]) == (0.5, 409, "refused")
    assert document["title"] == "Conflict"
    assert document["request_id"] == "id-1"


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    query: int


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    query: _Inner
    tags: list[int] = []


def faults(document: str) -> str:
    with pytest.raises(ValidationError) as refusal:
        _Outer.model_validate_json(document)
    return from_validation(refusal.value).detail


def test_faults_are_told_by_their_place() -> None:
    assert faults('{"query":{"query":"1"}}') == "query.query: must be a whole number"
    assert faults('{"query":{"query":1},"tags":[1,true]}') == "tags.1: must be a whole number"
    assert faults('{"query":{"query":1,"a[b":1}}') == "query.a[b: unknown field"
    assert faults("{}") == "query: is needed"
    assert faults("[]") == "the body must be a JSON object"


def test_many_faults_are_not_all_told() -> None:
    detail = faults('{"query":{"query":1},"tags":[' + ",".join(["true"] * 30) + "]}")
    assert detail.count("whole number") == 10
    assert detail.endswith("; and 20 more")


def test_a_value_is_never_told() -> None:
    assert "hunter2" not in faults('{"query":{"query":"hunter2"}}')
