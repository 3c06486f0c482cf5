"""The body of an answer, in the form of OpenAI or of Ollama."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vendor.script import Call, Fault, Script

OPENAI_TARGETS = ("/v1/embeddings", "/embeddings")
OLLAMA_TARGETS = ("/api/embed",)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body; `whole` False where it is a refusal."""

    status: int
    body: bytes
    whole: bool = True


def answer(script: Script, call: Call, fault: Fault) -> Answer:
    """What the vendor says to `call`."""
    refused = _refusal(script, call, fault)
    if refused is not None:
        return refused
    native = script.length_of(call.model) or 0
    length = native if call.dimensions is None or fault.ignore_dimensions else call.dimensions
    if call.target.endswith(OLLAMA_TARGETS):
        # Ollama cannot make a vector longer than the model does.
        return Answer(200, _ollama(script, call, fault, min(length, native)))
    return Answer(200, _openai(script, call, fault, length))


def _refusal(script: Script, call: Call, fault: Fault) -> Answer | None:
    native = script.length_of(call.model)
    if not call.target.endswith(OPENAI_TARGETS + OLLAMA_TARGETS):
        return _error(404, "no such page", fault)
    if script.api_key is not None and call.key != script.api_key:
        return _error(401, f"Incorrect API key provided: {call.key}", fault)
    if native is None:
        return _error(404, f"The model {call.model} does not exist", fault)
    if fault.status is not None:
        return Answer(fault.status, fault.body.encode(), whole=False)
    if any(text == "" for text in call.inputs) or not call.inputs:
        return _error(400, "input cannot be an empty string", fault)
    if fault.refuse_base64 and call.encoding_format == "base64":
        return _error(400, "base64 encoding is not currently supported", fault)
    if fault.refuse_dimensions and call.dimensions is not None:
        return _error(400, "Model does not support matryoshka representation", fault)
    if fault.max_batch is not None and len(call.inputs) > fault.max_batch:
        return _error(413, f"batch size {len(call.inputs)} > maximum allowed batch size {fault.max_batch}", fault)
    too_long = call.dimensions is not None and script.models is not None and call.dimensions > native
    if too_long and not call.target.endswith(OLLAMA_TARGETS):
        return _error(400, f"dimensions must be at most {native}", fault)
    return None


def _error(status: int, message: str, fault: Fault) -> Answer:
    said = "invalid request" if fault.vague else message
    return Answer(status, json.dumps({"error": {"message": said}}).encode(), whole=False)


def _openai(script: Script, call: Call, fault: Fault, length: int) -> bytes:
    as_base64 = call.encoding_format == "base64" and not fault.ignore_base64
    vectors = _encoded(script, call, fault, length, as_base64)
    items = [
        b'{"object":"embedding","index":%d,"embedding":%b}' % (0 if fault.same_index else number, vector)
        for number, vector in enumerate(vectors)
    ]
    if fault.shuffle:
        items.reverse()
    tokens = _tokens(call)
    usage = b"" if fault.no_usage else b',"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
    model = json.dumps(call.model).encode()
    return b'{"object":"list","data":[%b],"model":%b%b}' % (b",".join(items), model, usage)


def _ollama(script: Script, call: Call, fault: Fault, length: int) -> bytes:
    vectors = _encoded(script, call, fault, length, as_base64=False)
    usage = b"" if fault.no_usage else b',"prompt_eval_count":%d' % _tokens(call)
    return b'{"model":%b,"embeddings":[%b]%b}' % (json.dumps(call.model).encode(), b",".join(vectors), usage)


def _tokens(call: Call) -> int:
    """As many as a vendor would count, near enough: one for each four characters."""
    return sum(len(text) // 4 + 1 for text in call.inputs)


def _encoded(script: Script, call: Call, fault: Fault, length: int, as_base64: bool) -> list[bytes]:
    codebook = script.codebook(call.model, length)
    if _vectors_are_right(fault):
        if as_base64:
            return [b'"%b"' % codebook.base64(text) for text in call.inputs]
        return [codebook.numbers(text) for text in call.inputs]
    vectors = [codebook.vector(text) for text in call.inputs]
    vectors = vectors[: len(vectors) + fault.vectors] if fault.vectors < 0 else vectors + vectors[:1] * fault.vectors
    if fault.length:
        vectors = [np.resize(vector, length + fault.length) for vector in vectors]
    if fault.uneven:
        vectors[-1] = np.resize(vectors[-1], len(vectors[-1]) + 1)
    if fault.value is not None:
        bad = vectors[-1].copy()
        bad[slice(None) if fault.value == "zero" else -1] = float(fault.value.replace("zero", "0"))
        vectors[-1] = bad
    return [
        _one(vector, as_base64=number % 2 == 1 if fault.mixed else as_base64) for number, vector in enumerate(vectors)
    ]


def _vectors_are_right(fault: Fault) -> bool:
    return not (fault.vectors or fault.length or fault.uneven or fault.value or fault.mixed)


def _one(vector: NDArray[np.float32], as_base64: bool) -> bytes:
    if as_base64:
        return b'"%b"' % base64.b64encode(vector.astype("<f4").tobytes())
    return json.dumps([float(number) for number in vector]).encode()
