"""Errors as RFC 9457 problem documents: the one place where our error tree becomes HTTP answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    401: "send a bearer token in the Authorization header",
    403: "ask for the right that is named",
    404: "GET /openapi.json lists the routes",
    405: "GET /openapi.json lists the methods of each route",
    413: "split the text, or send less at a time",
}


class Problem(Exception):  # noqa: N818 - the RFC's own word
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
        self.hint = hint or _HINTS.get(status, "")
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def answer(problem: Problem, request_id: str) -> JSONResponse:
    """The response of a problem."""
    document = {
        "type": f"urn:memory-operator:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "hint": problem.hint,
        "request_id": request_id,
        **problem.extra,
    }
    return JSONResponse(
        document,
        problem.status,
        {**problem.headers, "X-Request-Id": request_id},
        media_type=MEDIA_TYPE,
    )


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
            hint = error.hint or "try again in a moment"
            return Problem(503, "unavailable", error.message, hint=hint, headers={"Retry-After": str(seconds)})
        case _:
            log.error("no answer is made for %s: %s", type(error).__name__, error)
            return Problem(500, "internal", "the request could not be answered", hint="see the server's log")


def from_validation(error: ValidationError | RequestValidationError) -> Problem:
    """The problem that a body or parameter has that does not fit; each fault by its place."""
    faults = []
    for detail in error.errors():
        place = ".".join(str(part) for part in detail["loc"] if part not in ("body", "query", "path"))
        kind = str(detail["type"])
        text = "unknown field" if kind == "extra_forbidden" else str(detail["msg"]).removeprefix("Value error, ")
        faults.append(f"{place}: {text}" if place else text)
    return Problem(400, "invalid_request", "; ".join(faults[:10]) or "the request does not fit")


def install(app: FastAPI) -> None:
    """Let every error of the app become a problem."""

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
    async def starlette(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "no_such_route", 405: "method_not_allowed"}.get(error.status_code, "refused")
        problem = Problem(error.status_code, code, str(error.detail), headers=error.headers)
        return answer(problem, request_id_of(request))

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        request_id = request_id_of(request)
        log.error("request failed", exc_info=error, extra={"request_id": request_id})
        problem = Problem(500, "internal", "the request could not be answered", hint="see the server's log")
        return answer(problem, request_id)


def request_id_of(request: Request) -> str:
    """The id that the guard gave this request."""
    return str(getattr(request.state, "request_id", ""))
