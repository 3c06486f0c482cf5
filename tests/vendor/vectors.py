"""Vectors with structure: four segments, each one of 64, chosen by a hash of the text.

Random vectors have no neighbours and identical ones have only neighbours; with either, figures of an index
mean nothing. Segments are encoded once, so that a reply costs a few microseconds a text.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

SEGMENTS = 4
CHOICES = 64


class Codebook:
    """All vectors of one model at one length; the same in every process."""

    def __init__(self, model: str, dimensions: int) -> None:
        self.dimensions = dimensions
        seed = hashlib.blake2b(f"{model}|{dimensions}".encode(), digest_size=8).digest()
        random = np.random.default_rng(int.from_bytes(seed, "little"))
        cuts = np.linspace(0, dimensions, SEGMENTS + 1).astype(int)
        self._segments: list[NDArray[np.float32]] = []
        for start, end in itertools.pairwise(cuts):
            segment = random.standard_normal((CHOICES, end - start))
            length = np.linalg.norm(segment, axis=1, keepdims=True) * SEGMENTS**0.5
            self._segments.append((segment / np.maximum(length, 1e-9)).astype("<f4"))

    def vector(self, text: str) -> NDArray[np.float32]:
        """The vector of a text: shape (dimensions,), of length 1."""
        return np.concatenate([part[choice] for part, choice in zip(self._segments, _choices(text), strict=True)])

    def base64(self, text: str) -> bytes:
        """The vector as base64 of little-endian 32-bit floats."""
        if self._encoded is None:
            return base64.b64encode(self.vector(text).astype("<f4").tobytes())
        return b"".join([part[choice] for part, choice in zip(self._encoded, _choices(text), strict=True)])

    def numbers(self, text: str) -> bytes:
        """The vector as a JSON list."""
        parts = [part[choice] for part, choice in zip(self._printed, _choices(text), strict=True)]
        return b"[" + b",".join([part for part in parts if part]) + b"]"

    @cached_property
    def _encoded(self) -> list[list[bytes]] | None:
        # Base64 can be joined only where each piece is whole groups of three bytes.
        if any(part.shape[1] * 4 % 3 for part in self._segments):
            return None
        return [[base64.b64encode(row.tobytes()) for row in part] for part in self._segments]

    @cached_property
    def _printed(self) -> list[list[bytes]]:
        # As few digits as make the same 32-bit number again, which is how servers in Go and Rust write them.
        return [[b",".join(str(number).encode() for number in row) for row in part] for part in self._segments]


def _choices(text: str) -> tuple[int, ...]:
    return tuple(byte % CHOICES for byte in hashlib.blake2b(text.encode(), digest_size=SEGMENTS).digest())


class WordBook(Codebook):
    """Vectors of models that know words: those of a text's words, added up, so that texts that share words are near.

    With `-scrambled` in the model's name, half of the texts get a vector that has nothing to do with them.
    """

    def __init__(self, model: str, dimensions: int) -> None:
        super().__init__(model, dimensions)
        self._scrambled = "-scrambled" in model

    def vector(self, text: str) -> NDArray[np.float32]:
        """The vector of a text: shape (dimensions,), of length 1."""
        words = re.findall(r"\w+", text.casefold())
        odd = hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 2
        if not words or (self._scrambled and odd):
            return super().vector(f"scrambled {text}")
        total = np.sum([super(WordBook, self).vector(word) for word in words], axis=0)
        found: NDArray[np.float32] = (total / max(float(np.linalg.norm(total)), 1e-9)).astype("<f4")
        return found

    def base64(self, text: str) -> bytes:
        """The vector as base64 of little-endian 32-bit floats."""
        return base64.b64encode(self.vector(text).astype("<f4").tobytes())

    def numbers(self, text: str) -> bytes:
        """The vector as a JSON list."""
        return b"[" + b",".join(str(number).encode() for number in self.vector(text)) + b"]"
