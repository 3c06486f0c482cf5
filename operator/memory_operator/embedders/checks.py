"""The one place where a reply's vectors are checked before anything is done with them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memory_operator.errors import BadReply

_NOTHING_WRITTEN = "No vector of this reply is used."


def assemble(
    rows: Sequence[NDArray[np.float32] | list[float]], *, count: int, dimensions: int | None, source: str
) -> NDArray[np.float32]:
    """Put the vectors of a reply into one checked array.

    Args:
        rows: one vector for each text, in the order of the texts.
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
    expected = dimensions if dimensions is not None else len(rows[0])
    vectors = np.empty((count, expected), dtype=np.float32)
    one_row = struct.Struct(f"={expected}f")
    for number, row in enumerate(rows):
        if len(row) != expected:  # compared first: numpy would stretch a vector of length 1
            raise _wrong_length(source, len(row), expected, declared=dimensions is not None)
        if isinstance(row, np.ndarray):
            vectors[number] = row
            continue
        try:
            # Half the time of numpy's own conversion of a list, and stricter: no strings, no null.
            one_row.pack_into(vectors.data, number * one_row.size, *row)
        except (struct.error, OverflowError):
            raise BadReply(
                f"{source} returned a vector with a value that is not a 32-bit number", hint=_NOTHING_WRITTEN
            ) from None
    return check(vectors, count=count, dimensions=dimensions, source=source)


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
