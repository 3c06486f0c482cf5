"""Reading a body strictly, whatever its Content-Type says."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from pydantic import ValidationError

from memory_operator.http.problems import Problem, from_validation
from memory_operator.http.schemas.base import Body

BodyT = TypeVar("BodyT", bound=Body)


def read(model: type[BodyT], *, may_be_empty: bool = False) -> Callable[[Request], Coroutine[Any, Any, BodyT]]:
    """A dependency that reads a body, whatever its Content-Type. Raises a 400 problem that names the field.

    curl sends JSON as a form unless told otherwise, and nobody should have to tell it.
    """

    async def body(request: Request) -> BodyT:
        raw = await request.body()
        if not raw.strip():
            if not may_be_empty:
                raise Problem(400, "invalid_request", "the body is empty; a JSON object is expected")
            raw = b"{}"
        try:
            found = model.model_validate_json(raw)
        except ValidationError as error:
            raise from_validation(error) from None
        _refuse_repeated(raw)
        return found

    return body


def _refuse_repeated(raw: bytes) -> None:
    """A field given twice says two things. Raises a 400 problem."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Problem(400, "invalid_request", f"{name[:100]}: given twice")
            seen.add(name)

    json.loads(raw, object_pairs_hook=once, parse_int=_skip, parse_float=_skip)


def _skip(_: str) -> None:
    """The value of a number does not matter here, and a long one takes long."""
