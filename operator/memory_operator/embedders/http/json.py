"""JSON of requests and replies, common to all vendors."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping

from simdjson import Array, Object, Parser

from memory_operator.errors import BadReply, RequestRejected

_COUNTS = re.compile(rb'("\w*(?:token|count|duration)\w*"\s*:\s*)(?:[-+0-9.eE]+|-?NaN|-?Infinity)', re.IGNORECASE)
"""What a reply counts beside its vectors, which must not be lost for a count that no number can hold."""
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
    answer = _read(body, source)
    if not isinstance(answer, Object):
        raise BadReply(f"{source} sent a reply that is not a JSON object", hint=NO_EMBEDDING_API)
    return answer


def json_array(body: bytes, source: str) -> Array:
    """A reply's JSON array, as `json_object`."""
    answer = _read(body, source)
    if not isinstance(answer, Array):
        raise BadReply(f"{source} sent a reply that is not a JSON array", hint=NO_EMBEDDING_API)
    return answer


def _read(body: bytes, source: str) -> object:
    try:
        try:
            return _parsed(body)
        except (ValueError, RuntimeError):  # the latter where it is nested too deeply, or a number has too many digits
            return _parsed(_COUNTS.sub(rb"\1null", body))
    except (ValueError, RuntimeError):
        raise BadReply(f"{source} sent a reply that is not JSON", hint=NO_EMBEDDING_API) from None


KEPT_PARSER_BYTES = 8 * 1024 * 1024
"""Largest reply for which a parser is kept; its memory is about three times as large."""
_kept = threading.local()
"""The parser of each thread: a new one for each reply spends half of its time on getting memory."""


def _parsed(body: bytes) -> object:
    parser: Parser | None = getattr(_kept, "parser", None)
    if parser is None or len(body) > KEPT_PARSER_BYTES:
        parser = Parser()
    try:
        answer = parser.parse(body)
    except RuntimeError:
        # Something of the reply before is alive still, as after an error that is being handled.
        parser = Parser()
        answer = parser.parse(body)
    if len(body) <= KEPT_PARSER_BYTES:
        _kept.parser = parser
    return answer


def token_count(value: object) -> int | None:
    """A vendor's token count; 0 is what some servers send that do not count."""
    return value if type(value) is int and value > 0 else None
