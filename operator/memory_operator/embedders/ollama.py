"""Ollama's own form, `POST {base}/api/embed`; behind a base URL that ends in /v1 it speaks the OpenAI form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from simdjson import Array

from memory_operator.embedders.bodies import NO_EMBEDDING_API, json_object, token_count
from memory_operator.embedders.calling import Call
from memory_operator.embedders.checks import assemble
from memory_operator.embedders.endpoint import endpoint
from memory_operator.embedders.openai import OpenAIEmbedder
from memory_operator.embedders.refusals import refusal
from memory_operator.embedders.types import Embedder, EmbedderType, Embeddings, Meter, Parts, with_prefix
from memory_operator.embedders.wire import Reply, answer_within
from memory_operator.errors import BadReply, RequestRejected
from memory_operator.plan.space import Mode


class OllamaEmbedder:
    """One model behind Ollama's own API."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._config = parts.config
        # A key is only there for a gateway in front of Ollama.
        self._endpoint = endpoint(parts.config, "/api/embed", parts.credential)

    def __repr__(self) -> str:
        return f"<embedder ollama {self._config.model!r} at {self._endpoint.host}>"

    async def embed(
        self,
        texts: Sequence[str],
        *,
        mode: Mode,
        timeout: float,
        dimensions: int | None,
        meter: Meter | None = None,
    ) -> Embeddings:
        """Embed `texts`: see `Embedder.embed`."""
        if not texts:
            return Embeddings(np.empty((0, dimensions or 0), dtype=np.float32), None)
        request: dict[str, object] = {
            "model": self._config.model,
            "input": with_prefix(texts, mode, self._config),
            # Ollama's default is to embed the beginning of a text that is too long and to say nothing.
            # A memory that can be found by its beginning only would look complete for ever; refused, it
            # goes to quarantine with the reason. Since 0.13.5 many versions refuse either way.
            "truncate": False,
        }
        if self._config.requested_dimensions is not None:
            # Shortens and normalises again; a value above the model's own is ignored, and found by the check.
            request["dimensions"] = self._config.requested_dimensions
        call = Call.of(self._parts, self._endpoint, dimensions=dimensions, timeout=timeout, meter=meter)
        async with answer_within(timeout, self._endpoint.host):
            reply = await call.post(request, len(texts))
            if not reply.ok:
                raise self._refusal(reply)
            return await call.decoded(reply, decode, len(texts))

    def _refusal(self, reply: Reply) -> Exception:
        # Some versions call a text that is too long their own failure (500): repeating it would go on for ever.
        if reply.status >= 500 and reply.mentions("context length"):
            return RequestRejected(
                f"{self._endpoint.host} answered {reply.status}: a text is longer than the model's context",
                hint="raise the model's context length in Ollama, or choose a model with a longer one",
            )
        return refusal(reply, host=self._endpoint.host, model=self._config.model)


def decode(body: bytes, count: int, dimensions: int | None, source: str) -> Embeddings:
    """Read a reply of Ollama's form; its vectors are in the order of the texts.

    Raises:
        BadReply: not such a reply, or its vectors do not pass `checks.assemble`.
    """
    answer = json_object(body, source)
    rows = answer.get("embeddings")
    if not isinstance(rows, Array) or not all(isinstance(row, Array) for row in rows):
        raise BadReply(f"{source} sent a reply without a list of vectors", hint=NO_EMBEDDING_API)
    vectors = assemble(list(rows), count=count, dimensions=dimensions, source=source)
    return Embeddings(vectors, token_count(answer.get("prompt_eval_count")))


def _build(parts: Parts) -> Embedder:
    base_url = (parts.config.base_url or "").rstrip("/")
    return OpenAIEmbedder(parts) if base_url.endswith("/v1") else OllamaEmbedder(parts)


OLLAMA = EmbedderType(name="ollama", build=_build, max_inputs=2048, default_batch_size=64)
