"""The JSON of requests and replies, as far as all vendors have it in common."""

from __future__ import annotations

import json
from collections.abc import Mapping

from simdjson import Object, Parser

from memory_operator.errors import BadReply, RequestRejected

NO_EMBEDDING_API = "check that spec.baseURL and spec.type name the same embedding API"


def to_json(request: Mapping[str, object]) -> bytes:
    """A request body.

    Raises:
        RequestRejected: a text has half a surrogate pair in it, which UTF-8 cannot carry.
    """
    try:
        return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise RequestRejected("A text has characters that UTF-8 cannot carry") from None


def json_object(body: bytes, source: str) -> Object:
    """A reply's JSON object, whose parts become Python objects only when they are looked at.

    Raises:
        BadReply: the body is something else.
    """
    try:
        # A parser of its own for each reply: one that is kept refuses to go on while anything of the last is alive.
        answer = Parser().parse(body)
    except (ValueError, RuntimeError):  # the latter where it is nested too deeply
        raise BadReply(f"{source} sent a reply that is not JSON", hint=NO_EMBEDDING_API) from None
    if not isinstance(answer, Object):
        raise BadReply(f"{source} sent a reply that is not a JSON object", hint=NO_EMBEDDING_API)
    return answer


def token_count(value: object) -> int | None:
    """A vendor's token count; 0 cannot be true of a text and is how some servers say that they do not count."""
    return value if type(value) is int and value > 0 else None
