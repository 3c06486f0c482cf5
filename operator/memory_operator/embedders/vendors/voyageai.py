"""Voyage AI, `POST {base}/v1/embeddings`: replies as OpenAI's, requests with an input type."""

from __future__ import annotations

from collections.abc import Sequence

from memory_operator.embedders.base import Embedder
from memory_operator.embedders.http.endpoint import endpoint
from memory_operator.embedders.http.status_errors import about_the_model, refusal
from memory_operator.embedders.http.transport import Reply
from memory_operator.embedders.parts import EmbedderType, Parts
from memory_operator.embedders.vendor import Dialect, Form, VendorEmbedder
from memory_operator.embedders.vendors import openai
from memory_operator.errors import MemoryOperatorError
from memory_operator.plan.space import CallConfig, Mode, input_mode

MAX_INPUTS = 1000
MAX_TOKENS_PER_REQUEST = 120_000
"""Of the models that are not in the table below: the least that any has."""
_MAX_TOKENS = {
    **dict.fromkeys(("voyage-3.5-lite", "voyage-4-lite"), 1_000_000),
    **dict.fromkeys(("voyage-3.5", "voyage-4", "voyage-2"), 320_000),
}


def compose(config: CallConfig, inputs: Sequence[str], mode: Mode, form: Form) -> dict[str, object]:
    """A request; without `encoding_format` the vectors come as numbers, and there is no word for that."""
    request: dict[str, object] = {
        "model": config.model,
        "input": inputs,
        "input_type": input_mode("voyageai", mode),
        # Otherwise a text that is too long is cut silently.
        "truncation": False,
    }
    if form.base64:
        request["encoding_format"] = "base64"
    if form.dimensions is not None:
        request["output_dimension"] = form.dimensions
    return request


def _refusal(reply: Reply, host: str, model: str) -> MemoryOperatorError:
    if reply.status == 400 and reply.mentions("supported models"):
        return about_the_model(reply, host=host, model=model)
    return refusal(reply, host=host, model=model)


VOYAGE_FORM = Dialect(compose=compose, decode=openai.decode, max_inputs=MAX_INPUTS, base64=True, refusal=_refusal)


def _build(parts: Parts) -> Embedder:
    # Voyage's own pages write the base URL either way.
    path = "/embeddings" if (parts.config.base_url or "").rstrip("/").endswith("/v1") else "/v1/embeddings"
    return VendorEmbedder(parts, VOYAGE_FORM, endpoint(parts.config, path, parts.credential))


VOYAGEAI = EmbedderType(
    name="voyageai",
    build=_build,
    max_inputs=MAX_INPUTS,
    default_batch_size=256,
    max_tokens_per_request=MAX_TOKENS_PER_REQUEST,
    max_tokens_per_request_of=_MAX_TOKENS,
    max_tokens_per_text=32_000,
)
