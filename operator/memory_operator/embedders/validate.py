"""The one place where a reply's vectors are checked before anything is done with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pybase64 import b64decode
from simdjson import Array

from memory_operator.embedders.http.json import NO_EMBEDDING_API
from memory_operator.errors import BadReply

_NOTHING_WRITTEN = "No vector of this reply is used."


def assemble(rows: Sequence[object], *, count: int, dimensions: int | None, source: str) -> NDArray[np.float32]:
    """Read the vectors of a parsed reply into one checked array.

    Args:
        rows: one vector for each text, in the order of the texts: a list of numbers, or base64 of little-endian
            32-bit floats.
        count: number of texts that were sent.
        dimensions: length that each vector must have; None takes the length of the first.
        source: who replied, for the message.

    Returns:
        Shape (count, d), C-contiguous.

    Raises:
        BadReply: wrong count, wrong or uneven length (with `actual_dimensions`), a value that is no finite
            32-bit number, or a vector of zeros.
    """
    if len(rows) != count:
        raise BadReply(f"{source} returned {len(rows)} vectors for {count} texts", hint=_NOTHING_WRITTEN)
    first = _numbers(rows[0], source)
    expected = dimensions if dimensions is not None else len(first)
    vectors = np.empty((count, expected), dtype=np.float32)
    with np.errstate(over="ignore"):  # what is too large for 32 bits becomes infinite, and `check` finds it
        for number, row in enumerate(rows):
            vector = _numbers(row, source) if number else first
            if len(vector) != expected:  # compared first: numpy would stretch a vector of length 1
                raise _wrong_length(source, len(vector), expected, declared=dimensions is not None)
            vectors[number] = vector
    return check(vectors, count=count, dimensions=dimensions, source=source)


def _numbers(row: object, source: str) -> NDArray[np.float32] | NDArray[np.float64]:
    """One vector as its numbers, which are finite or not, of any length."""
    if isinstance(row, Array):
        try:
            # From the parser's memory into numpy's: a Python object for each number takes four times as long.
            vector = np.frombuffer(row.as_buffer(of_type="d"), dtype=np.float64)
        except TypeError:
            vector = None
        if vector is None or len(vector) != len(row):  # lists within the list are flattened
            raise BadReply(
                f"{source} returned a vector with a value that is not a 32-bit number", hint=_NOTHING_WRITTEN
            )
        return vector
    if isinstance(row, str):
        try:
            # The form is little-endian whatever machine reads it.
            return np.frombuffer(b64decode(row, validate=True), dtype="<f4")
        except ValueError:
            raise BadReply(f"{source} sent a vector whose base64 cannot be read") from None
    raise BadReply(f"{source} sent a vector that is neither base64 nor a list of numbers", hint=NO_EMBEDDING_API)


def check(vectors: NDArray[np.float32], *, count: int, dimensions: int | None, source: str) -> NDArray[np.float32]:
    """Return `vectors` unchanged when they can be stored: see `assemble`, whose second half this is."""
    if vectors.shape[0] != count:
        raise BadReply(f"{source} returned {vectors.shape[0]} vectors for {count} texts", hint=_NOTHING_WRITTEN)
    actual = vectors.shape[1]
    if actual == 0 or (dimensions is not None and actual != dimensions):
        raise _wrong_length(source, actual, dimensions or 1, declared=dimensions is not None)
    if not np.isfinite(vectors).all():
        raise BadReply(f"{source} returned a vector with a value that is not a 32-bit number", hint=_NOTHING_WRITTEN)
    if not vectors.any(axis=1).all():
        raise BadReply(f"{source} returned a vector of zeros", hint=_NOTHING_WRITTEN)
    return vectors


def _wrong_length(source: str, actual: int, expected: int, *, declared: bool) -> BadReply:
    if not declared:
        return BadReply(
            f"{source} returned vectors of {expected} and of {actual} dimensions in one reply",
            hint=_NOTHING_WRITTEN,
            actual_dimensions=actual,
        )
    return BadReply(
        f"{source} returned a vector of {actual} dimensions where {expected} were expected",
        hint=f"declare {actual} in spec.embedding.dimensions, or choose a model that returns {expected}",
        actual_dimensions=actual,
    )
