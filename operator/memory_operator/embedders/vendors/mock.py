"""Vectors without a model, for tests and demonstrations: the same text gives the same vector for ever."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from memory_operator.embedders.base import Embeddings, with_prefix
from memory_operator.embedders.parts import EmbedderType, Parts
from memory_operator.embedders.validate import check
from memory_operator.plan.space import Mode

DIMENSIONS = 384
"""Length of the vectors when the Provider does not declare one."""
PLACES_PER_WORD = 8
_WORD = re.compile(r"\w+")


class MockEmbedder:
    """Adds up a few fixed places for each word: texts that share words are near to each other.

    The model's name is part of each word's places, so that two mock models make two spaces as unlike as
    those of two real models.
    """

    def __init__(self, parts: Parts) -> None:
        self._config = parts.config
        self._length = parts.config.requested_dimensions or DIMENSIONS

    def __repr__(self) -> str:
        return f"<embedder mock {self._config.model!r}>"

    async def embed(
        self,
        texts: Sequence[str],
        *,
        mode: Mode,
        dimensions: int | None,
        **_: object,
    ) -> Embeddings:
        """Embed `texts`: see `Embedder.embed`. Tokens are counted as words, at least one a text."""
        vectors = np.zeros((len(texts), self._length), dtype=np.float32)
        tokens = 0
        for number, text in enumerate(with_prefix(texts, mode, self._config)):
            words = _WORD.findall(text.casefold())
            tokens += max(1, len(words))
            # The whole text moves one place by a fraction: a text without words has a vector too, and
            # words that cancel each other out leave no vector of zeros.
            places, signs = _places(text, self._config.model, self._length)
            vectors[number, places[0]] += 0.25 * signs[0]
            for word in words:
                places, signs = _places(word, self._config.model, self._length)
                np.add.at(vectors[number], places, signs)
        if len(texts):
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            check(vectors, count=len(texts), dimensions=dimensions, source="the mock embedder")
        return Embeddings(vectors, tokens or None)


@lru_cache(maxsize=16_384)
def _places(word: str, model: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=4 * PLACES_PER_WORD, key=_key(model))
    numbers = np.frombuffer(digest.digest(), dtype="<u4")
    signs = np.where(numbers & 1, np.float32(1), np.float32(-1))
    return (numbers >> 1) % length, signs


def _key(model: str) -> bytes:
    return hashlib.blake2b(model.encode(errors="surrogatepass"), digest_size=16).digest()


MOCK = EmbedderType(name="mock", build=MockEmbedder, max_inputs=2048, default_batch_size=256, calls_a_vendor=False)
