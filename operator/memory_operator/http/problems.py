"""Errors as RFC 9457 problem documents: the one place where our error tree becomes HTTP answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from memory_operator.errors import Conflict, InvalidInput, MemoryOperatorError, NotFound, Retryable
from memory_operator.logs import get_logger

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
_HINTS = {
    400: "correct the request; /docs shows what is expected",
    401: "send a token in the header `Authorization: Bearer …`",
    403: "ask for the right that is named",
    404: "GET /openapi.json lists the routes",
    405: "GET /openapi.json lists the methods of each route",
    408: "send it faster, or less at a time",
    409: "look at the present state, then decide",
    413: "split the text, or send less at a time",
    500: "look for the request id in the server's log",
    503: "try again in a moment",
}
_FAULTS_SHOWN = 10
_FAULTS = (
    ("extra_forbidden", "unknown field"),
    ("missing", "is needed"),
    ("json_invalid", "the body is not JSON: {error}"),
    ("model_", "must be a JSON object"),
    ("dict_", "must be a JSON object"),
    ("list_", "must be a list"),
    ("string_too_short", "must have {min_length} or more characters"),
    ("string_too_long", "must have at most {max_length} characters"),
    ("string_pattern_mismatch", "is not written as it should be; /docs shows an example"),
    ("string_", "must be a text"),
    ("too_long", "must have at most {max_length} entries"),
    ("int_parsing_size", "the number is out of range"),
    ("int_", "must be a whole number"),
    ("float_", "must be a number"),
    ("finite_number", "must be a finite number"),
    ("bool_", "must be true or false"),
    ("uuid_", "must be the id of a memory, as /memory/add answers it"),
    ("date", "must be a time such as 2026-01-31T12:00:00Z"),
    ("greater_than_equal", "must be at least {ge}"),
    ("less_than_equal", "must be at most {le}"),
)
"""What pydantic calls a fault, by its beginning, and what we say."""
_PLACE_CHARS = 100


class Problem(Exception):
    """An answer that is a problem document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint or _HINTS.get(status, _HINTS[400])
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers.setdefault("Retry-After", str(RETRY_SECONDS))


def answer(problem: Problem, request_id: str) -> JSONResponse:
    """The response of a problem."""
    document = {
        **problem.extra,
        "type": f"urn:memory-operator:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "hint": problem.hint,
        "request_id": request_id,
    }
    return JSONResponse(document, problem.status, problem.headers, media_type=MEDIA_TYPE)


def internal() -> Problem:
    """The problem of an error that nobody expected; what it was is in the log, and nowhere else."""
    return Problem(500, "internal", "the request could not be answered")


def from_error(error: MemoryOperatorError) -> Problem:
    """The problem that one of our errors is."""
    match error:
        case InvalidInput():
            return Problem(400, "invalid_input", error.message, hint=error.hint)
        case NotFound():
            return Problem(404, "not_found", error.message, hint=error.hint)
        case Conflict():
            return Problem(409, error.code, error.message, hint=error.hint, extra=error.extra)
        case Retryable():
            seconds = math.ceil(error.retry_after or RETRY_SECONDS)
            return Problem(
                503, "unavailable", error.message, hint=error.hint, headers={"Retry-After": str(max(1, seconds))}
            )
        case _:
            log.error("no answer is made for %s: %s", type(error).__name__, error, exc_info=error)
            return internal()


def from_validation(error: ValidationError | RequestValidationError) -> Problem:
    """The problem that a body or parameter has that does not fit; each fault by its place, never with the value."""
    # A route's own parameters are placed below "path" or "query", the fields of a body below nothing.
    first = 1 if isinstance(error, RequestValidationError) else 0
    faults = [_fault(detail["loc"][first:], detail) for detail in error.errors()]
    text = "; ".join(faults[:_FAULTS_SHOWN])
    left_out = len(faults) - _FAULTS_SHOWN
    return Problem(400, "invalid_request", f"{text}; and {left_out} more" if left_out > 0 else text)


def _fault(location: Iterable[Any], detail: Mapping[str, Any]) -> str:
    unknown = detail["type"] == "extra_forbidden"
    # The validators that pydantic names in a place mean nothing to a reader.
    place = ".".join(str(part) for part in location if unknown or "[" not in str(part))[:_PLACE_CHARS]
    text = plain_fault(detail)
    if place:
        return f"{place}: {text}"
    return f"the body {text}" if text.startswith("must ") else text


def plain_fault(detail: Mapping[str, Any]) -> str:
    """What is wrong with a value, in our words: pydantic's name its types and show regular expressions."""
    kind, context = str(detail["type"]), detail.get("ctx", {})
    if kind == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        return f"must be {context['expected']}"
    for start, text in _FAULTS:
        if kind.startswith(start):
            return text.format(**context)
    return "cannot be used here"


def install(app: FastAPI) -> None:
    """Let every error that the app expects become a problem; the guard sees to all others."""

    @app.exception_handler(Problem)
    async def known(request: Request, error: Problem) -> JSONResponse:
        return answer(error, request_id_of(request))

    @app.exception_handler(MemoryOperatorError)
    async def ours(request: Request, error: MemoryOperatorError) -> JSONResponse:
        return answer(from_error(error), request_id_of(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(from_validation(error), request_id_of(request))

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "no_such_route", 405: "method_not_allowed"}.get(error.status_code, "refused")
        text = {404: "there is no such route", 405: f"this route does not take {request.method[:20]}"}
        detail = text.get(error.status_code, str(error.detail))
        return answer(Problem(error.status_code, code, detail, headers=error.headers), request_id_of(request))


def request_id_of(request: Request) -> str:
    """The id that the guard gave this request."""
    return str(getattr(request.state, "request_id", ""))
