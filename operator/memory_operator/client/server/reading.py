"""The server's answers as typed objects.

A small reader of our own: to import pydantic and build these models with it takes longer than a whole command.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from memory_operator.client.errors import MisunderstoodError


class AnswerDocument:
    """A JSON object of the server, newer or older than this program.

    A subclass names the fields that it needs; one without a default has to be there, and others are passed over.
    `from_dim="from"` beside its bases gives a field another key in JSON.
    """

    json_keys: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **json_keys: str) -> None:
        super().__init_subclass__()
        cls.json_keys = {**cls.json_keys, **json_keys}


A = TypeVar("A", bound=AnswerDocument)


def read(model: type[A], document: Any, where: str = "") -> A:
    """An answer as an object; `where` leads to it. Raises MisunderstoodError."""
    if not isinstance(document, dict):
        raise _misunderstood(where)
    result = model()
    for name, key, kind in _fields(model):  # type: ignore[arg-type]  # to mypy a type variable has no hash
        if key in document:
            setattr(result, name, _value(kind, document[key], f"{where}.{key}"))
        elif not hasattr(model, name):
            raise _misunderstood(f"{where}.{key}")
    return result


@functools.cache
def _fields(model: Any) -> list[tuple[str, str, Any]]:
    """Name, JSON key and kind of each field."""
    hints = get_type_hints(model)
    return [(name, model.json_keys.get(name, name), kind) for name, kind in hints.items() if name != "json_keys"]


def _value(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as an object of this kind. Raises MisunderstoodError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, f"{where}.{index}") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: _value(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, AnswerDocument):
        return read(kind, value, where)
    if kind is datetime and isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise _misunderstood(where) from error
    expected = (int, float) if kind is float else origin or kind
    # True is an int to Python, and none to JSON.
    if kind is Any or (isinstance(value, expected) and isinstance(value, bool) == (kind is bool)):
        return value
    raise _misunderstood(where)


def _misunderstood(where: str) -> MisunderstoodError:
    return MisunderstoodError(
        f"the server's answer was not understood (at {where.lstrip('.') or 'the whole of it'})",
        "this program and the server may be of different ages; --json prints the answer as it is",
    )
