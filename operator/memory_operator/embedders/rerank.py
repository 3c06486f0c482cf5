"""Rerank APIs over HTTP: Cohere's, Voyage AI's, Jina's (many servers have it) and text-embeddings-inference's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simdjson import Array, Object

from memory_operator.contract.rerank import RerankForm
from memory_operator.embedders.base import Meter, Relevance, counted_tokens
from memory_operator.embedders.http.endpoint import endpoint
from memory_operator.embedders.http.json import json_array, json_object, token_count
from memory_operator.embedders.http.request import Decode, VendorRequest
from memory_operator.embedders.http.status_errors import refusal
from memory_operator.embedders.http.transport import Wire, answer_within
from memory_operator.errors import BadReply
from memory_operator.plan.space import RerankConfig

_NO_RERANK_API = "check that the Provider's spec.embedding.rerank names the form of the server at its base URL"
_VERSION = re.compile(r"/v[12]$")
_TEI_TEXTS = 32
"""Most texts in one request unless the server was started to take more; each is scored by itself."""

Composed = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Dialect:
    """One vendor's rerank API."""

    path: str
    compose: Callable[[str, str, Sequence[str]], Composed]
    """The JSON of a request: model, question, texts."""
    decode: Decode[Relevance]
    most_texts: int = 1000


def _cohere_request(model: str, question: str, texts: Sequence[str]) -> Composed:
    return {"model": model, "query": question, "documents": texts, "top_n": len(texts)}


def _voyage_request(model: str, question: str, texts: Sequence[str]) -> Composed:
    request = {"model": model, "query": question, "documents": texts, "top_k": len(texts)}
    # A text that is too long for the model is cut, not refused: its beginning tells more than nothing.
    return {**request, "return_documents": False, "truncation": True}


def _jina_request(model: str, question: str, texts: Sequence[str]) -> Composed:
    return {**_cohere_request(model, question, texts), "return_documents": False}


def _tei_request(_model: str, question: str, texts: Sequence[str]) -> Composed:
    return {"query": question, "texts": texts, "raw_scores": False, "return_text": False, "truncate": True}


def _decoder(entries: str, *tokens: str) -> Decode[Relevance]:
    """Reads an object with a list of that name, and the vendor's count of tokens where that path leads."""

    def decode(body: bytes, count: int, _: int | None, source: str) -> Relevance:
        answer = json_object(body, source)
        return Relevance(_scores(answer.get(entries), "relevance_score", count, source), _counted(answer, tokens))

    return decode


def _decode_tei(body: bytes, count: int, _: int | None, source: str) -> Relevance:
    return Relevance(_scores(json_array(body, source), "score", count, source), None)


def _counted(answer: Object, path: Sequence[str]) -> int | None:
    found: object = answer
    for name in path:
        if not isinstance(found, Object):
            return None
        found = found.get(name)
    return token_count(found)


def _scores(entries: object, name: str, count: int, source: str) -> tuple[float, ...]:
    """One score for each text, by the index of each entry. Raises BadReply unless each text has exactly one."""
    if not isinstance(entries, Array):
        raise BadReply(f"{source} sent a reply without a list of scores", hint=_NO_RERANK_API)
    if len(entries) != count:
        raise BadReply(f"{source} returned {len(entries)} scores for {count} texts", hint=_NO_RERANK_API)
    scores: dict[int, float] = {}
    for entry in entries:
        if not isinstance(entry, Object):
            raise BadReply(f"{source} sent a reply without a list of scores", hint=_NO_RERANK_API)
        index, score = entry.get("index"), entry.get(name)
        if type(index) is not int or not 0 <= index < count or index in scores:
            raise BadReply(f"{source} sent scores that cannot be matched to the texts by their index")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise BadReply(f"{source} sent a score that is not a finite number")
        scores[index] = float(score)
    return tuple(scores[number] for number in range(count))


_DIALECTS: Mapping[RerankForm, _Dialect] = {
    # Cohere bills searches, and says how many tokens there were in some replies only.
    "Cohere": _Dialect("/v2/rerank", _cohere_request, _decoder("results", "meta", "tokens", "input_tokens")),
    "Voyage": _Dialect("/v1/rerank", _voyage_request, _decoder("data", "usage", "total_tokens")),
    "Jina": _Dialect("/v1/rerank", _jina_request, _decoder("results", "usage", "total_tokens")),
    "TEI": _Dialect("/rerank", _tei_request, _decode_tei, _TEI_TEXTS),
}


class VendorReranker:
    """One model behind one rerank API. Safe to call concurrently on its pool's event loop."""

    def __init__(self, config: RerankConfig, credential: str | None, ca_pem: str | None, wire: Wire) -> None:
        """Raises ConfigurationError: base URL, headers or key cannot be used."""
        self._model, self._wire, self._ca_pem = config.model, wire, ca_pem
        self._dialect = _DIALECTS[config.form]
        # Base URLs are written with the version and without; an embedding API's may have another than this one.
        base_url = _VERSION.sub("", (config.base_url or "").rstrip("/"))
        self._endpoint = endpoint(config.model_copy(update={"base_url": base_url}), self._dialect.path, credential)

    def __repr__(self) -> str:
        return f"<reranker {self._model!r} at {self._endpoint.host}>"

    async def rerank(
        self, question: str, texts: Sequence[str], *, timeout: float, meter: Meter | None = None
    ) -> Relevance:
        """See `Reranker.rerank`."""
        most = self._dialect.most_texts
        async with answer_within(timeout, self._endpoint.host):
            request = VendorRequest(self._endpoint, "query", self._wire, self._ca_pem, None, timeout, meter)
            parts = [
                await self._request(request, question, texts[start : start + most])
                for start in range(0, len(texts), most)
            ]
        scores = tuple(score for part in parts for score in part.scores)
        return Relevance(scores, counted_tokens(parts))

    async def _request(self, request: VendorRequest, question: str, texts: Sequence[str]) -> Relevance:
        reply = await request.post(self._dialect.compose(self._model, question, texts), len(texts))
        if not reply.ok:
            raise refusal(reply, host=self._endpoint.host, model=self._model)
        return await request.decoded(reply, self._dialect.decode, len(texts))
