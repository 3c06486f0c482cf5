"""Ollama's own form, `POST {base}/api/embed`; behind a base URL that ends in /v1 it speaks the OpenAI form."""

from __future__ import annotations

from collections.abc import Sequence

from simdjson import Array

from memory_operator.embedders.base import Embedder, Embeddings
from memory_operator.embedders.http.endpoint import endpoint
from memory_operator.embedders.http.json import NO_EMBEDDING_API, json_object, token_count
from memory_operator.embedders.http.status_errors import refusal
from memory_operator.embedders.http.transport import Reply
from memory_operator.embedders.parts import EmbedderType, Parts
from memory_operator.embedders.validate import assemble
from memory_operator.embedders.vendor import Dialect, Form, VendorEmbedder
from memory_operator.embedders.vendors.openai import openai_embedder
from memory_operator.errors import BadReply, MemoryOperatorError, RequestRejected
from memory_operator.plan.space import CallConfig, Mode

MAX_INPUTS = 2048


def compose(config: CallConfig, inputs: Sequence[str], _mode: Mode, form: Form) -> dict[str, object]:
    """A request of Ollama's form, which knows no modes."""
    request: dict[str, object] = {
        "model": config.model,
        "input": inputs,
        # Ollama's default is to cut a text that is too long silently; refused, it goes to quarantine with
        # the reason. Since 0.13.5 many versions refuse either way.
        "truncate": False,
    }
    if form.dimensions is not None:
        # Shortens and normalises again; a value above the model's own is ignored, and found by the check.
        request["dimensions"] = form.dimensions
    return request


def decode(body: bytes, count: int, dimensions: int | None, source: str) -> Embeddings:
    """Read a reply of Ollama's form; its vectors are in the order of the texts.

    Raises:
        BadReply: not such a reply, or its vectors do not pass `validate.assemble`.
    """
    answer = json_object(body, source)
    rows = answer.get("embeddings")
    if not isinstance(rows, Array) or not all(isinstance(row, Array) for row in rows):
        raise BadReply(f"{source} sent a reply without a list of vectors", hint=NO_EMBEDDING_API)
    vectors = assemble(list(rows), count=count, dimensions=dimensions, source=source)
    return Embeddings(vectors, token_count(answer.get("prompt_eval_count")))


def _refusal(reply: Reply, host: str, model: str) -> MemoryOperatorError:
    # Some versions call a text that is too long their own failure (500): repeating it would go on for ever.
    if reply.status >= 500 and reply.mentions("context length"):
        return RequestRejected(
            f"{host} answered {reply.status}: a text is longer than the model's context",
            hint="raise the model's context length in Ollama, or choose a model with a longer one",
        )
    return refusal(reply, host=host, model=model)


OLLAMA_FORM = Dialect(
    compose=compose, decode=decode, max_inputs=MAX_INPUTS, gives_up_dimensions=False, refusal=_refusal
)


def _build(parts: Parts) -> Embedder:
    if (parts.config.base_url or "").rstrip("/").endswith("/v1"):
        return openai_embedder(parts)
    # A key is only there for a gateway in front of Ollama.
    return VendorEmbedder(parts, OLLAMA_FORM, endpoint(parts.config, "/api/embed", parts.credential))


OLLAMA = EmbedderType(name="ollama", build=_build, max_inputs=MAX_INPUTS, default_batch_size=64)
