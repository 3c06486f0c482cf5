"""The OpenAI form, `POST {base}/embeddings`: OpenAI itself and the many servers that speak like it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from simdjson import Array, Object

from memory_operator.embedders.bodies import NO_EMBEDDING_API, json_object, token_count
from memory_operator.embedders.calling import Call
from memory_operator.embedders.checks import assemble
from memory_operator.embedders.endpoint import endpoint, host_of
from memory_operator.embedders.refusals import ABOUT_THE_TEXTS, refusal
from memory_operator.embedders.types import Embedder, EmbedderType, Embeddings, Meter, Parts, with_prefix
from memory_operator.embedders.wire import Reply, answer_within
from memory_operator.errors import BadReply
from memory_operator.logs import get_logger
from memory_operator.plan.space import Mode

log = get_logger(__name__)

OFFICIAL_HOST = "api.openai.com"
MAX_INPUTS = 2048
MAX_TOKENS_PER_REQUEST = 300_000
MAX_TOKENS_PER_TEXT = 8192

_OWN_LIMIT = (
    re.compile(r"maximum allowed batch size\D{0,9}(\d+)"),
    re.compile(r"batch size\D{0,80}larger than (\d+)"),
)
"""How servers with a small batch limit name it (text-embeddings-inference; Alibaba's gateway)."""


@dataclass(frozen=True, slots=True)
class _Form:
    """The optional fields of a request."""

    base64: bool
    dimensions: int | None


class OpenAIEmbedder:
    """One model behind an API of the OpenAI form."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._config = parts.config
        self._manners = parts.manners
        self._endpoint = endpoint(parts.config, "/embeddings", parts.credential)
        self._dimensions = parts.config.requested_dimensions if _takes_dimensions(parts) else None

    def __repr__(self) -> str:
        return f"<embedder {self._config.type} {self._config.model!r} at {self._endpoint.host}>"

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
        call = Call.of(self._parts, self._endpoint, dimensions=dimensions, timeout=timeout, meter=meter)
        async with answer_within(timeout, self._endpoint.host):
            return await self._slices(call, with_prefix(texts, mode, self._config))

    async def _slices(self, call: Call, inputs: list[str]) -> Embeddings:
        """Embed in as many requests as the server's own limit makes necessary, most often one."""
        limit = self._manners.max_inputs or MAX_INPUTS
        parts = [await self._request(call, inputs[start : start + limit]) for start in range(0, len(inputs), limit)]
        if len(parts) == 1:
            return parts[0]
        counts = [part.tokens for part in parts if part.tokens is not None]
        tokens = sum(counts) if len(counts) == len(parts) else None
        try:
            return Embeddings(np.concatenate([part.vectors for part in parts]), tokens)
        except ValueError:
            raise BadReply(f"{self._endpoint.host} returned vectors of different lengths") from None

    async def _request(self, call: Call, inputs: list[str]) -> Embeddings:
        preferred = _Form(
            base64=self._manners.base64 is not False,
            dimensions=self._dimensions if self._manners.dimensions.get(self._dimensions or 0, True) else None,
        )
        reply = await self._post(call, inputs, preferred)
        form = preferred
        if reply.status in ABOUT_THE_TEXTS:
            limit = _own_limit(reply)
            if limit is not None and 0 < limit < len(inputs):
                self._manners.max_inputs = limit
                log.info("%s takes %d texts in a request", self._endpoint.host, limit)
                return await self._slices(call, inputs)
            for simpler in self._simpler(preferred, reply):
                again = await self._post(call, inputs, simpler)
                if again.status not in ABOUT_THE_TEXTS:
                    form, reply = simpler, again
                    break
        if not reply.ok:
            raise refusal(reply, host=self._endpoint.host, model=self._config.model)
        self._remember(preferred, form)
        return await call.decoded(reply, decode, len(inputs))

    async def _post(self, call: Call, inputs: list[str], form: _Form) -> Reply:
        request: dict[str, object] = {"model": self._config.model, "input": inputs}
        # Always said: some servers answer base64 to a request that does not.
        request["encoding_format"] = "base64" if form.base64 else "float"
        if form.dimensions is not None:
            request["dimensions"] = form.dimensions
        return await call.post(request, len(inputs))

    def _simpler(self, refused: _Form, reply: Reply) -> list[_Form]:
        """Forms to try after a refusal, the likeliest first. What has worked before is not given up:
        the refusal is then about the texts, and sending them again would only cost."""
        without_base64 = refused.base64 and self._manners.base64 is None
        without_dimensions = refused.dimensions is not None and refused.dimensions not in self._manners.dimensions
        forms = []
        if without_base64:
            forms.append(replace(refused, base64=False))
        if without_dimensions:
            forms.append(replace(refused, dimensions=None))
        if without_base64 and without_dimensions:
            if reply.mentions("dimension", "matryoshka") and not reply.mentions("base64", "encoding"):
                forms.reverse()
            forms.append(_Form(base64=False, dimensions=None))
        return forms

    def _remember(self, preferred: _Form, worked: _Form) -> None:
        host = self._endpoint.host
        if preferred.base64 and self._manners.base64 is not worked.base64:
            self._manners.base64 = worked.base64
            if not worked.base64:
                log.info("%s refuses base64: vectors come as JSON numbers from now on", host)
        if preferred.dimensions is not None:
            taken = worked.dimensions is not None
            if not taken and self._manners.dimensions.get(preferred.dimensions, True):
                log.info("%s refuses the dimensions parameter: it is left out from now on", host)
            self._manners.dimensions[preferred.dimensions] = taken


def decode(body: bytes, count: int, dimensions: int | None, source: str) -> Embeddings:
    """Read a reply of the OpenAI form; vectors may be base64, numbers, or some of each.

    Raises:
        BadReply: not such a reply, or its vectors do not pass `checks.assemble`.
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


def _own_limit(reply: Reply) -> int | None:
    text = reply.body.decode(errors="replace").lower()
    found = next((match for pattern in _OWN_LIMIT if (match := pattern.search(text))), None)
    return int(found[1]) if found and len(found[1]) < 7 else None


def _takes_dimensions(parts: Parts) -> bool:
    """OpenAI itself takes the parameter for its third generation only; other servers are asked."""
    config = parts.config
    official = config.type == "openai" and host_of(config.base_url or "") == OFFICIAL_HOST
    return not official or config.model.startswith("text-embedding-3")


def _build(parts: Parts) -> Embedder:
    return OpenAIEmbedder(parts)


OPENAI = EmbedderType(
    name="openai",
    build=_build,
    max_inputs=MAX_INPUTS,
    default_batch_size=256,
    max_tokens_per_request=MAX_TOKENS_PER_REQUEST,
    max_tokens_per_text=MAX_TOKENS_PER_TEXT,
)
COMPATIBLE = EmbedderType(name="openai_compatible", build=_build, max_inputs=MAX_INPUTS, default_batch_size=128)
