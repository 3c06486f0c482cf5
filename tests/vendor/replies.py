"""The body of an answer, in the form that the vendor meant writes it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from vendor.script import IRRELEVANT, Call, Fault, RerankForm, Script

MOST_INPUTS = {"openai": 2048, "azure": 2048, "voyageai": 1000, "cohere": 96, "gemini": 100}
MODES = {
    "voyageai": ("document", "query"),
    "cohere": ("search_document", "search_query"),
    "gemini": ("RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"),
}


@dataclass(frozen=True, slots=True)
class VendorReply:
    """Status and body; `whole` False where it is a refusal."""

    status: int
    body: bytes
    whole: bool = True


def answer(script: Script, call: Call, fault: Fault) -> VendorReply:
    """What the vendor says to `call`."""
    refused = _refusal(script, call, fault)
    if refused is not None:
        return refused
    if fault.reply is not None:
        return VendorReply(200, fault.reply.encode())
    if call.form in get_args(RerankForm):
        return VendorReply(200, _reranked(script, call, fault))
    native = script.length_of(call.model) or 0
    length = native if call.dimensions is None or fault.ignore_dimensions else call.dimensions
    match call.form:
        case "ollama":  # cannot make a vector longer than the model does
            return VendorReply(200, _ollama(script, call, fault, min(length, native)))
        case "cohere":
            return VendorReply(200, _cohere(script, call, fault, length))
        case "gemini":
            return VendorReply(200, _gemini(script, call, fault, length))
        case _:
            return VendorReply(200, _openai(script, call, fault, length))


def _refusal(script: Script, call: Call, fault: Fault) -> VendorReply | None:
    native = script.length_of(call.model)
    if call.form == "unknown":
        return _error(404, "no such page", fault)
    by_token = call.form == "azure" and "api-key" not in call.headers
    if by_token and call.key not in script.authority.tokens:
        return _error(401, f"Access denied for token {call.key}", fault)
    if not by_token and script.api_key is not None and call.key != script.api_key:
        if call.form == "gemini":
            return _error(400, "API key not valid. Please pass a valid API key.", fault)
        return _error(401, f"Incorrect API key provided: {call.key}", fault)
    if native is None:
        return _error(404, f"The model {call.model} does not exist", fault)
    if fault.status is not None:
        return VendorReply(fault.status, fault.body.encode(), whole=False)
    if any(text == "" for text in call.inputs) or not call.inputs:
        return _error(400, "input cannot be an empty string", fault)
    if len(call.inputs) > MOST_INPUTS.get(call.form, len(call.inputs)):
        return _error(400, f"at most {MOST_INPUTS[call.form]} inputs in a request", fault)
    if call.form in MODES and call.mode not in MODES[call.form]:
        return _error(400, f"{call.mode} is no valid input type", fault)
    if fault.refuse_base64 and call.encoding_format == "base64":
        return _error(400, "base64 encoding is not currently supported", fault)
    if fault.refuse_dimensions and call.dimensions is not None:
        return _error(400, "Model does not support matryoshka representation", fault)
    if fault.max_batch is not None and len(call.inputs) > fault.max_batch:
        return _error(413, f"batch size {len(call.inputs)} > maximum allowed batch size {fault.max_batch}", fault)
    too_long = call.dimensions is not None and script.models is not None and call.dimensions > native
    if too_long and call.form != "ollama":
        return _error(400, f"dimensions must be at most {native}", fault)
    return None


def _error(status: int, message: str, fault: Fault) -> VendorReply:
    said = "invalid request" if fault.vague else message
    return VendorReply(status, json.dumps({"error": {"message": said}}).encode(), whole=False)


def _openai(script: Script, call: Call, fault: Fault, length: int) -> bytes:
    as_base64 = call.encoding_format == "base64" and not fault.ignore_base64
    vectors = _encoded(script, call, fault, length, as_base64)
    items = [
        b'{"object":"embedding","index":%d,"embedding":%b}' % (0 if fault.same_index else number, vector)
        for number, vector in enumerate(vectors)
    ]
    if fault.shuffle:
        items.reverse()
    tokens = _counted(call, fault)
    counted = b'"total_tokens":%b' % tokens
    if call.form != "voyageai":
        counted = b'"prompt_tokens":%b,' % tokens + counted
    usage = b"" if fault.no_usage else b',"usage":{%b}' % counted
    model = json.dumps(call.model).encode()
    return b'{"object":"list","data":[%b],"model":%b%b}' % (b",".join(items), model, usage)


def _ollama(script: Script, call: Call, fault: Fault, length: int) -> bytes:
    vectors = _encoded(script, call, fault, length, as_base64=False)
    usage = b"" if fault.no_usage else b',"prompt_eval_count":%b' % _counted(call, fault)
    return b'{"model":%b,"embeddings":[%b]%b}' % (json.dumps(call.model).encode(), b",".join(vectors), usage)


def _cohere(script: Script, call: Call, fault: Fault, length: int) -> bytes:
    vectors = _encoded(script, call, fault, length, as_base64=False)
    billed = b"" if fault.no_usage else b',"billed_units":{"input_tokens":%b}' % _counted(call, fault)
    texts = json.dumps(list(call.inputs)).encode()
    return b'{"id":"1","embeddings":{"float":[%b]},"texts":%b,"meta":{"api_version":{"version":"2"}%b}}' % (
        b",".join(vectors),
        texts,
        billed,
    )


def _gemini(script: Script, call: Call, fault: Fault, length: int) -> bytes:
    vectors = _encoded(script, call, fault, length, as_base64=False)
    usage = b"" if fault.no_usage else b',"usageMetadata":{"promptTokenCount":%b}' % _counted(call, fault)
    return b'{"embeddings":[%b]%b}' % (b",".join(b'{"values":%b}' % vector for vector in vectors), usage)


def _reranked(script: Script, call: Call, fault: Fault) -> bytes:
    """The scores, best first as vendors give them."""
    name = "score" if call.form == "tei_rerank" else "relevance_score"
    scores = [
        next((score for words, score in script.relevant.items() if words in text), IRRELEVANT) for text in call.inputs
    ]
    entries = [{"index": place, name: scores[place]} for place in sorted(range(len(scores)), key=lambda n: -scores[n])]
    tokens = json.loads(_counted(call, fault))
    match call.form:
        case "tei_rerank":
            return json.dumps(entries).encode()
        case "cohere_rerank":
            meta = {"billed_units": {"search_units": 1}} | (
                {} if fault.no_usage else {"tokens": {"input_tokens": tokens}}
            )
            return json.dumps({"id": "1", "results": entries, "meta": meta}).encode()
        case "voyage_rerank":
            answer = {"object": "list", "data": entries, "model": call.model}
        case _:
            answer = {"model": call.model, "results": entries}
    return json.dumps(answer | ({} if fault.no_usage else {"usage": {"total_tokens": tokens}})).encode()


def _counted(call: Call, fault: Fault) -> bytes:
    return b"%d" % _tokens(call) if fault.count is None else fault.count.encode()


def _tokens(call: Call) -> int:
    """As many as a vendor would count, near enough: one for each four characters."""
    return sum(len(text) // 4 + 1 for text in call.inputs)


def _encoded(script: Script, call: Call, fault: Fault, length: int, as_base64: bool) -> list[bytes]:
    codebook = script.codebook(fault.becomes or call.model, length)
    if call.form == "gemini" and call.dimensions is not None:
        # Shortened by cutting off, which leaves a vector that is shorter than 1.
        fault = replace(fault, shrunk=True)
    if _vectors_are_right(fault):
        if as_base64:
            return [b'"%b"' % codebook.base64(text) for text in call.inputs]
        return [codebook.numbers(text) for text in call.inputs]
    vectors = [codebook.vector(text) for text in call.inputs]
    vectors = vectors[: len(vectors) + fault.vectors] if fault.vectors < 0 else vectors + vectors[:1] * fault.vectors
    if fault.shrunk:
        vectors = [vector * np.float32(0.5) for vector in vectors]
    if fault.length:
        vectors = [np.resize(vector, length + fault.length) for vector in vectors]
    if fault.uneven:
        vectors[-1] = np.resize(vectors[-1], len(vectors[-1]) + 1)
    if fault.value is not None:
        bad = vectors[-1].copy()
        bad[slice(None) if fault.value == "zero" else -1] = float(
            {"zero": "0", "huge": "1e30"}.get(fault.value, fault.value)
        )
        vectors[-1] = bad
    return [
        _one(vector, as_base64=number % 2 == 1 if fault.mixed else as_base64) for number, vector in enumerate(vectors)
    ]


def _vectors_are_right(fault: Fault) -> bool:
    return not (fault.vectors or fault.length or fault.uneven or fault.value or fault.mixed or fault.shrunk)


def _one(vector: NDArray[np.float32], as_base64: bool) -> bytes:
    if as_base64:
        return b'"%b"' % base64.b64encode(vector.astype("<f4").tobytes())
    return json.dumps([float(number) for number in vector]).encode()
