"""Google's Gemini API, `POST {base}/models/{model}:batchEmbedContents`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
from simdjson import Array, Object

from memory_operator.embedders.base import Embedder, Embeddings
from memory_operator.embedders.http.endpoint import endpoint
from memory_operator.embedders.http.json import NO_EMBEDDING_API, json_object, token_count
from memory_operator.embedders.http.status_errors import refusal, refused_key
from memory_operator.embedders.http.transport import Reply
from memory_operator.embedders.parts import EmbedderType, Parts
from memory_operator.embedders.validate import assemble
from memory_operator.embedders.vendor import Dialect, Form, VendorEmbedder
from memory_operator.errors import BadReply, MemoryOperatorError
from memory_operator.plan.space import CallConfig, Mode, input_mode

MAX_INPUTS = 100
MAX_TOKENS_PER_TEXT = 2048
KEY_HEADER = "x-goog-api-key"
_FOLDER = "models/"


def compose(config: CallConfig, inputs: Sequence[str], mode: Mode, form: Form) -> dict[str, object]:
    """A request, in which each text is a request of its own."""
    common: dict[str, object] = {"model": _FOLDER + _bare(config.model), "taskType": input_mode("gemini", mode)}
    if form.dimensions is not None:
        common["outputDimensionality"] = form.dimensions
    return {"requests": [{**common, "content": {"parts": [{"text": text}]}} for text in inputs]}


def decode(body: bytes, count: int, dimensions: int | None, source: str) -> Embeddings:
    """Read a reply; its vectors are in the order of the texts, and are made of length 1.

    Raises:
        BadReply: not such a reply, or its vectors do not pass `validate.assemble`.
    """
    answer = json_object(body, source)
    items = answer.get("embeddings")
    rows = [item.get("values") if isinstance(item, Object) else None for item in _listed(items)]
    if not isinstance(items, Array) or not all(isinstance(row, Array) for row in rows):
        raise BadReply(f"{source} sent a reply without a list of vectors", hint=NO_EMBEDDING_API)
    vectors = assemble(rows, count=count, dimensions=dimensions, source=source)
    # Shortened vectors are cut off and no more: the inner product of such ones would mean nothing.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    usage = answer.get("usageMetadata")
    return Embeddings(vectors, token_count(usage.get("promptTokenCount")) if isinstance(usage, Object) else None)


def _listed(items: object) -> list[object]:
    return list(items) if isinstance(items, Array) else []


def _bare(model: str) -> str:
    """The model's name without the folder that Google writes before it."""
    return model.removeprefix(_FOLDER)


def _refusal(reply: Reply, host: str, model: str) -> MemoryOperatorError:
    # A wrong key is a 400 here. Taken for a fault of the texts it would send all of them to quarantine.
    if reply.status == 400 and reply.mentions("api_key_invalid", "api key not valid", "api key expired"):
        return refused_key(reply, host=host)
    return refusal(reply, host=host, model=model)


GEMINI_FORM = Dialect(compose=compose, decode=decode, max_inputs=MAX_INPUTS, refusal=_refusal)


def _build(parts: Parts) -> Embedder:
    path = f"/models/{quote(_bare(parts.config.model), safe='')}:batchEmbedContents"
    return VendorEmbedder(parts, GEMINI_FORM, endpoint(parts.config, path, parts.credential, key_header=KEY_HEADER))


GEMINI = EmbedderType(
    name="gemini",
    build=_build,
    max_inputs=MAX_INPUTS,
    default_batch_size=MAX_INPUTS,
    max_tokens_per_text=MAX_TOKENS_PER_TEXT,
)
