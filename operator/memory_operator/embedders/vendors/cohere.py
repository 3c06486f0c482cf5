"""Cohere, `POST {base}/v2/embed`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from simdjson import Array, Object

from memory_operator.embedders.base import Embedder, Embeddings
from memory_operator.embedders.http.endpoint import endpoint
from memory_operator.embedders.http.json import NO_EMBEDDING_API, json_object, token_count
from memory_operator.embedders.parts import EmbedderType, Parts
from memory_operator.embedders.validate import assemble
from memory_operator.embedders.vendor import Dialect, Form, VendorEmbedder
from memory_operator.errors import BadReply
from memory_operator.plan.space import CallConfig, Mode, input_mode

MAX_INPUTS = 96
_OF_ONE_LENGTH = re.compile(r"-v[23]\.\d")
"""Models before the fourth generation have one length and refuse the parameter."""


def compose(config: CallConfig, inputs: Sequence[str], mode: Mode, form: Form) -> dict[str, object]:
    """A request."""
    request: dict[str, object] = {
        "model": config.model,
        "texts": inputs,
        "input_type": input_mode("cohere", mode),
        "embedding_types": ["float"],
        # Otherwise a text that is too long is cut silently.
        "truncate": "NONE",
    }
    if form.dimensions is not None:
        request["output_dimension"] = form.dimensions
    return request


def decode(body: bytes, count: int, dimensions: int | None, source: str) -> Embeddings:
    """Read a reply; its vectors are in the order of the texts.

    Raises:
        BadReply: not such a reply, or its vectors do not pass `validate.assemble`.
    """
    answer = json_object(body, source)
    embeddings = answer.get("embeddings")
    rows = embeddings.get("float") if isinstance(embeddings, Object) else None
    if not isinstance(rows, Array) or not all(isinstance(row, Array) for row in rows):
        raise BadReply(f"{source} sent a reply without a list of vectors", hint=NO_EMBEDDING_API)
    vectors = assemble(list(rows), count=count, dimensions=dimensions, source=source)
    return Embeddings(vectors, _tokens(answer.get("meta")))


def _tokens(meta: object) -> int | None:
    billed = meta.get("billed_units") if isinstance(meta, Object) else None
    return token_count(billed.get("input_tokens")) if isinstance(billed, Object) else None


def _takes_dimensions(config: CallConfig) -> bool:
    return not _OF_ONE_LENGTH.search(config.model)


COHERE_FORM = Dialect(compose=compose, decode=decode, max_inputs=MAX_INPUTS, takes_dimensions=_takes_dimensions)


def _build(parts: Parts) -> Embedder:
    return VendorEmbedder(parts, COHERE_FORM, endpoint(parts.config, "/v2/embed", parts.credential))


COHERE = EmbedderType(name="cohere", build=_build, max_inputs=MAX_INPUTS, default_batch_size=MAX_INPUTS)
