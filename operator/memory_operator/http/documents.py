"""JSON answers, and what OpenAPI says about the problems that every route may answer with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from fastapi import Response

from memory_operator.http.problems import MEDIA_TYPE

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `hint` says what to do next.",
    "required": ["type", "title", "status", "detail", "code", "hint", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
    for status, text in {
        400: "The request does not fit",
        401: "No valid token",
        403: "Not allowed",
        404: "There is no such thing",
        409: "Refused in the present state",
        413: "The body is too large",
        503: "Try again after Retry-After seconds",
    }.items()
}


def json_answer(content: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON response; decimals are text, so that they stay exact, and times are RFC 3339."""
    return Response(
        json.dumps(content, default=_plain, ensure_ascii=False, separators=(",", ":")),
        status,
        media_type="application/json",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")
