"""The OpenAI form, `POST {base}/embeddings`: OpenAI itself and the many servers that speak like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simdjson import Array, Object

from memory_operator.embedders.base import Embedder, Embeddings
from memory_operator.embedders.http.endpoint import endpoint, host_of
from memory_operator.embedders.http.json import NO_EMBEDDING_API, json_object, token_count
from memory_operator.embedders.parts import EmbedderType, Parts
from memory_operator.embedders.validate import assemble
from memory_operator.embedders.vendor import Dialect, Form, VendorEmbedder
from memory_operator.errors import BadReply
from memory_operator.plan.space import CallConfig, Mode

OFFICIAL_HOST = "api.openai.com"
MAX_INPUTS = 2048
MAX_TOKENS_PER_REQUEST = 300_000
MAX_TOKENS_PER_TEXT = 8192


def compose(config: CallConfig, inputs: Sequence[str], _mode: Mode, form: Form) -> dict[str, object]:
    """A request of the OpenAI form, which knows no modes."""
    request: dict[str, object] = {"model": config.model, "input": inputs}
    # Always sent: some servers answer base64 where it is missing.
    request["encoding_format"] = "base64" if form.base64 else "float"
    if form.dimensions is not None:
        request["dimensions"] = form.dimensions
    return request


def decode(body: bytes, count: int, dimensions: int | None, source: str) -> Embeddings:
    """Read a reply of the OpenAI form; vectors may be base64, numbers, or some of each.

    Raises:
        BadReply: not such a reply, or its vectors do not pass `validate.assemble`.
    """
    answer = json_object(body, source)
    data = answer.get("data")
    items = list(data) if isinstance(data, Array) else [None]
    rows: dict[int, object] = {}
    for item in items:
        if not isinstance(item, Object):
            raise BadReply(f"{source} sent a reply without a list of vectors", hint=NO_EMBEDDING_API)
        index = item.get("index")
        if type(index) is not int or not 0 <= index < len(items) or index in rows:
            raise BadReply(f"{source} sent vectors that cannot be matched to the texts by their index")
        rows[index] = item.get("embedding")
    in_order = [rows[number] for number in range(len(rows))]
    vectors = assemble(in_order, count=count, dimensions=dimensions, source=source)
    return Embeddings(vectors, _tokens(answer.get("usage")))


def _tokens(usage: object) -> int | None:
    if not isinstance(usage, Object):
        return None
    return token_count(usage.get("prompt_tokens")) or token_count(usage.get("total_tokens"))


def _takes_dimensions(config: CallConfig) -> bool:
    """OpenAI itself takes `dimensions` from its third generation on; other servers get it until they refuse it."""
    official = config.type == "openai" and host_of(config.base_url or "") == OFFICIAL_HOST
    return not official or config.model.startswith("text-embedding-3")


OPENAI_FORM = Dialect(
    compose=compose, decode=decode, max_inputs=MAX_INPUTS, base64=True, takes_dimensions=_takes_dimensions
)


def openai_embedder(parts: Parts) -> Embedder:
    """An embedder of the OpenAI form at the base URL of `parts`."""
    return VendorEmbedder(parts, OPENAI_FORM, endpoint(parts.config, "/embeddings", parts.credential))


OPENAI = EmbedderType(
    name="openai",
    build=openai_embedder,
    max_inputs=MAX_INPUTS,
    default_batch_size=256,
    max_tokens_per_request=MAX_TOKENS_PER_REQUEST,
    max_tokens_per_text=MAX_TOKENS_PER_TEXT,
)
COMPATIBLE = EmbedderType(
    name="openai_compatible", build=openai_embedder, max_inputs=MAX_INPUTS, default_batch_size=128
)
VLLM = replace(COMPATIBLE, name="vllm")
"""vLLM's own server, under `/v1`."""
HUGGINGFACE = replace(COMPATIBLE, name="huggingface")
"""Hugging Face's text-embeddings-inference, under `/v1`, and whatever else of theirs speaks the OpenAI form."""
