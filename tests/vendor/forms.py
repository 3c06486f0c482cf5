"""The forms that requests come in: which vendor's API is meant, and what is asked of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from vendor.script import Call, Form

_PATHS: tuple[tuple[Form, re.Pattern[str]], ...] = (
    ("azure", re.compile(r"/openai/deployments/(?P<model>[^/]+)/embeddings$")),
    ("gemini", re.compile(r"/models/(?P<model>[^/]+):batchEmbedContents$")),
    ("cohere", re.compile(r"/v2/embed$")),
    ("ollama", re.compile(r"/api/embed$")),
    ("cohere_rerank", re.compile(r"/v2/rerank$")),
    ("jina_rerank", re.compile(r"/v1/rerank$")),
    ("tei_rerank", re.compile(r"/rerank$")),
    ("openai", re.compile(r"/embeddings$")),
)
_EXCHANGE = re.compile(r"/oauth2/v2\.0/token")


def is_exchange(target: str) -> bool:
    """Whether a token is asked for, and not vectors."""
    return _EXCHANGE.search(target) is not None


def read_call(target: str, headers: Mapping[str, str], body: bytes) -> Call:
    """The call that a request is; of form "unknown" where no vendor has such a page."""
    form, found = _form_of(urlsplit(target).path)
    request = _object(body)
    if form == "openai" and "input_type" in request:
        form = "voyageai"
    if form == "jina_rerank" and "top_k" in request:
        form = "voyage_rerank"
    given = request.get("input", request.get("texts", request.get("documents", [])))
    each: Mapping[str, Any] = {}
    if form == "gemini":
        wanted = request.get("requests", [])
        each = wanted[0] if wanted else {}
        given = [part["content"]["parts"][0]["text"] for part in wanted]
    in_path = unquote(found["model"]) if found and "model" in found.groupdict() else ""
    return Call(
        target=target,
        headers=headers,
        model=in_path or request.get("model", ""),
        inputs=[given] if isinstance(given, str) else given,
        encoding_format=request.get("encoding_format"),
        dimensions=request.get("dimensions", request.get("output_dimension", each.get("outputDimensionality"))),
        truncate=request.get("truncate", request.get("truncation")),
        form=form,
        mode=request.get("input_type", each.get("taskType")),
        request=request,
    )


def _form_of(path: str) -> tuple[Form, re.Match[str] | None]:
    for form, pattern in _PATHS:
        found = pattern.search(path)
        if found is not None:
            return form, found
    return "unknown", None


def _object(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body) if body else {}
    except ValueError:
        return {}
    return request if isinstance(request, dict) else {}
