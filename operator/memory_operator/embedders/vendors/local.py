"""Small models that ship inside Python packages: no network, no key, no download."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_operator.embedders.base import Embeddings, with_prefix
from memory_operator.embedders.http.transport import answer_within
from memory_operator.embedders.parts import EmbedderType, Parts
from memory_operator.embedders.validate import check
from memory_operator.embedders.vendors import local_e5
from memory_operator.errors import BadReply, ConfigurationError, RequestRejected
from memory_operator.plan.space import Mode

MODEL = "wordllama"
DIMENSIONS = (256, 128, 64)
CHARACTERS_AT_ONCE = 262_144
"""Texts tokenised together: their tokens take about 100 bytes for each of 4 characters."""


class LocalEmbedder:
    """One of the models in this process."""

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        model = _MODELS.get(config.model)
        if model is None:
            known = " and ".join(sorted(_MODELS))
            raise ConfigurationError(
                f"Provider type local has the models {known} only", hint="set spec.model to one of them"
            )
        length = config.requested_dimensions or model.dimensions[0]
        if length not in model.dimensions:
            known = " or ".join(", ".join(str(of) for of in model.dimensions).rsplit(", ", 1))
            raise BadReply(
                f"The model {config.model} makes vectors of {known} dimensions, not of {length}",
                hint="set spec.embedding.dimensions to one of them",
                actual_dimensions=model.dimensions[0],
            )
        self._config = config
        self._model = model
        self._length = length
        self._executor = parts.executor

    def __repr__(self) -> str:
        return f"<embedder local {self._config.model} {self._length}>"

    async def embed(
        self,
        texts: Sequence[str],
        *,
        mode: Mode,
        timeout: float,
        dimensions: int | None,
        **_: object,
    ) -> Embeddings:
        """Embed `texts`: see `Embedder.embed`. The first call in a process also loads the model, in about 1 s.

        Raises:
            ConfigurationError: the package with the model is not installed.
        """
        if not texts:
            return Embeddings(np.empty((0, dimensions or self._length), dtype=np.float32), None)
        inputs = with_prefix(texts, mode, self._config)
        loop = asyncio.get_running_loop()
        async with answer_within(timeout, "the local model"):
            answer = await loop.run_in_executor(self._executor(), self._model.embed, inputs, mode, self._length)
        check(answer.vectors, count=len(texts), dimensions=dimensions, source="the local model")
        return answer


@dataclass(frozen=True, slots=True)
class _WordLlama:
    """A vector for each token, averaged over the text."""

    tokenizer: Any
    table: NDArray[np.float32]
    """Shape (tokens known, 256)."""


_loading = threading.Lock()


def _model() -> _WordLlama:
    """The model, loaded at the first call: one for all event loops of the process, 32 MiB."""
    with _loading:
        return _load()


@cache
def _load() -> _WordLlama:
    try:
        with _root_logger_untouched():
            import wordllama
        # Its own folder as the cache: otherwise the tokenizer that ships with it is not looked for there.
        folder = Path(wordllama.__file__).parent
        model = wordllama.WordLlama.load(dim=DIMENSIONS[0], cache_dir=folder, disable_download=True)
    except (ImportError, OSError) as missing:
        raise ConfigurationError(
            f"The model {MODEL} is not installed", hint="pip install 'wordllama>=0.4,<0.5'"
        ) from missing
    # Padded to the longest of its batch, one long text would blow up the memory of all.
    model.tokenizer.no_padding()
    return _WordLlama(model.tokenizer, model.embedding)


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """The package calls `logging.basicConfig` when imported, which does nothing where a handler is."""
    root = logging.getLogger()
    shield = logging.NullHandler()
    root.addHandler(shield)
    try:
        yield
    finally:
        root.removeHandler(shield)


def _embed(texts: list[str], _mode: Mode, length: int) -> Embeddings:
    model = _model()
    vectors = np.empty((len(texts), model.table.shape[1]), dtype=np.float32)
    tokens = 0
    for start, end in _slices(texts):
        try:
            encoded = model.tokenizer.encode_batch(texts[start:end], add_special_tokens=False)
        except TypeError:
            raise RequestRejected("A text has characters that UTF-8 cannot carry") from None
        for number, encoding in enumerate(encoded, start):
            ids = encoding.ids
            if not ids:
                raise RequestRejected("A text is empty", hint="the local model has no vector for no words")
            tokens += len(ids)
            # A product with ones is the sum over the tokens, five times as fast as numpy's own.
            np.matmul(np.ones(len(ids), dtype=np.float32), model.table.take(ids, axis=0), out=vectors[number])
    # The first 128 or 64 numbers are a model of their own: it was trained to be cut there.
    cut = np.ascontiguousarray(vectors[:, :length])
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    return Embeddings(cut, tokens)


def _slices(texts: list[str]) -> Iterator[tuple[int, int]]:
    start = characters = 0
    for number, text in enumerate(texts):
        if number > start and characters + len(text) > CHARACTERS_AT_ONCE:
            yield start, number
            start, characters = number, 0
        characters += len(text)
    yield start, len(texts)


@dataclass(frozen=True, slots=True)
class _Model:
    dimensions: tuple[int, ...]
    """That it makes; the first where none is asked for."""
    embed: Callable[[list[str], Mode, int], Embeddings]
    """Texts with their prefixes, what they are, and the length of the vectors."""


_MODELS: Mapping[str, _Model] = {
    MODEL: _Model(DIMENSIONS, _embed),
    local_e5.MODEL: _Model(local_e5.DIMENSIONS, local_e5.embed),
}

LOCAL = EmbedderType(name="local", build=LocalEmbedder, max_inputs=2048, default_batch_size=512, calls_a_vendor=False)
