"""Embedders that call a vendor over HTTP. What differs between vendors is a `Dialect`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memory_operator.embedders.base import Embeddings, Meter, counted_tokens, with_prefix
from memory_operator.embedders.http.endpoint import Endpoint
from memory_operator.embedders.http.request import Decode, VendorRequest
from memory_operator.embedders.http.status_errors import ABOUT_THE_TEXTS, refusal
from memory_operator.embedders.http.transport import Reply, answer_within
from memory_operator.embedders.parts import Parts
from memory_operator.errors import BadReply, CredentialRefused, MemoryOperatorError
from memory_operator.logs import get_logger
from memory_operator.plan.space import CallConfig, Mode

log = get_logger(__name__)

_OWN_LIMIT = (
    re.compile(r"maximum allowed batch size\D{0,9}(\d+)"),
    re.compile(r"batch size\D{0,80}larger than (\d+)"),
)
"""How servers with a small batch limit name it (text-embeddings-inference; Alibaba's gateway)."""


@dataclass(frozen=True, slots=True)
class Form:
    """The optional fields of a request."""

    base64: bool
    dimensions: int | None


def _standard(reply: Reply, host: str, model: str) -> MemoryOperatorError:
    return refusal(reply, host=host, model=model)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor's embedding API: its requests, replies and refusals."""

    compose: Callable[[CallConfig, Sequence[str], Mode, Form], Mapping[str, object]]
    """The JSON of a request for some texts, prefixes included."""
    decode: Decode[Embeddings]
    max_inputs: int
    """Most texts in one request."""
    base64: bool = False
    """Whether to ask for base64 until it is refused."""
    takes_dimensions: Callable[[CallConfig], bool] = lambda _: True
    """Whether to ask for the declared length until that is refused."""
    gives_up_dimensions: bool = True
    """Whether a refusal may be about the length that was asked for; otherwise it is about the texts."""
    refusal: Callable[[Reply, str, str], MemoryOperatorError] = _standard
    """The error for a reply that is no success, given host and model."""


class VendorEmbedder:
    """One model behind one vendor's API. Safe to call concurrently on its pool's event loop."""

    def __init__(self, parts: Parts, dialect: Dialect, endpoint: Endpoint) -> None:
        self._parts = parts
        self._config = parts.config
        self._dialect = dialect
        self._capabilities = parts.capabilities
        self._endpoint = endpoint
        self._dimensions = parts.config.requested_dimensions if dialect.takes_dimensions(parts.config) else None

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
        async with answer_within(timeout, self._endpoint.host):
            try:
                endpoint = await self._authorised(timeout)
                parts = self._parts
                call = VendorRequest(endpoint, mode, parts.wire, parts.ca_pem, dimensions, timeout, meter)
                return await self._slices(call, with_prefix(texts, mode, self._config))
            except CredentialRefused:
                self._refused_credential()
                raise

    async def _authorised(self, _timeout: float) -> Endpoint:
        """Where to post to, with a credential that is valid now."""
        return self._endpoint

    def _refused_credential(self) -> None:
        """The vendor did not accept the credential of the last call."""

    async def _slices(self, call: VendorRequest, inputs: list[str]) -> Embeddings:
        """Embed in as many requests as the server's own limit makes necessary, most often one."""
        limit = self._capabilities.max_inputs or self._dialect.max_inputs
        parts = [await self._request(call, inputs[start : start + limit]) for start in range(0, len(inputs), limit)]
        if len(parts) == 1:
            return parts[0]
        try:
            return Embeddings(np.concatenate([part.vectors for part in parts]), counted_tokens(parts))
        except ValueError:
            raise BadReply(f"{self._endpoint.host} returned vectors of different lengths") from None

    async def _request(self, call: VendorRequest, inputs: list[str]) -> Embeddings:
        preferred = Form(
            base64=self._dialect.base64 and self._capabilities.base64 is not False,
            dimensions=self._dimensions if self._capabilities.dimensions.get(self._dimensions or 0, True) else None,
        )
        reply = await self._post(call, inputs, preferred)
        form = preferred
        if reply.status in ABOUT_THE_TEXTS:
            limit = _own_limit(reply)
            if limit is not None and 0 < limit < len(inputs):
                self._capabilities.max_inputs = limit
                log.info("%s accepts at most %d texts in a request", self._endpoint.host, limit)
                return await self._slices(call, inputs)
            for simpler in self._simpler(preferred, reply):
                again = await self._post(call, inputs, simpler)
                if again.status not in ABOUT_THE_TEXTS:
                    form, reply = simpler, again
                    break
        if not reply.ok:
            raise self._refusal_of(reply)
        self._remember(preferred, form)
        return await call.decoded(reply, self._dialect.decode, len(inputs))

    async def _post(self, call: VendorRequest, inputs: list[str], form: Form) -> Reply:
        return await call.post(self._dialect.compose(self._config, inputs, call.mode, form), len(inputs))

    def _refusal_of(self, reply: Reply) -> MemoryOperatorError:
        return self._dialect.refusal(reply, self._endpoint.host, self._config.model)

    def _simpler(self, refused: Form, reply: Reply) -> list[Form]:
        """Forms to try after a refusal, the likeliest first.

        A field that was accepted before is kept: the refusal is then about the texts, and repeating them would only
        cost. Nothing is tried when the refusal is about the key or the model.
        """
        error = self._refusal_of(reply)
        if isinstance(error, CredentialRefused) or not getattr(error, "about_the_texts", True):
            return []
        without_base64 = refused.base64 and self._capabilities.base64 is None
        without_dimensions = (
            self._dialect.gives_up_dimensions
            and refused.dimensions is not None
            and refused.dimensions not in self._capabilities.dimensions
        )
        forms = []
        if without_base64:
            forms.append(replace(refused, base64=False))
        if without_dimensions:
            forms.append(replace(refused, dimensions=None))
        if without_base64 and without_dimensions:
            if reply.mentions("dimension", "matryoshka") and not reply.mentions("base64", "encoding"):
                forms.reverse()
            forms.append(Form(base64=False, dimensions=None))
        return forms

    def _remember(self, preferred: Form, worked: Form) -> None:
        host = self._endpoint.host
        if preferred.base64 and self._capabilities.base64 is not worked.base64:
            self._capabilities.base64 = worked.base64
            if not worked.base64:
                log.info("%s refuses base64; requesting JSON numbers from now on", host)
        if preferred.dimensions is not None:
            taken = worked.dimensions is not None
            if not taken and self._capabilities.dimensions.get(preferred.dimensions, True):
                log.info("%s refuses the dimensions parameter; omitting it from now on", host)
            self._capabilities.dimensions[preferred.dimensions] = taken


def _own_limit(reply: Reply) -> int | None:
    text = reply.body.decode(errors="replace").lower()
    found = next((match for pattern in _OWN_LIMIT if (match := pattern.search(text))), None)
    return int(found[1]) if found and len(found[1]) < 7 else None
