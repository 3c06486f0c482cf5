"""The JSON of requests and replies, as far as all vendors have it in common."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic_core import from_json

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


def json_object(body: bytes, source: str) -> dict[str, object]:
    """A reply's JSON object.

    Raises:
        BadReply: the body is something else.
    """
    try:
        # Remembering short strings, as the parser does by default, is of no use for vectors.
        answer = from_json(body, cache_strings="keys")
    except ValueError:
        raise BadReply(f"{source} sent a reply that is not JSON", hint=NO_EMBEDDING_API) from None
    if not isinstance(answer, dict):
        raise BadReply(f"{source} sent a reply that is not a JSON object", hint=NO_EMBEDDING_API)
    return answer


def token_count(value: object) -> int | None:
    """A vendor's token count; 0 cannot be true of a text and is how some servers say that they do not count."""
    return value if type(value) is int and value > 0 else None
