"""How similar the vectors of a project are to each other, computed from some of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memory_operator.memory.fusion import Dispersion


def dispersion_of(vectors: NDArray[np.float32], distance: str) -> Dispersion:
    """How similar vectors of shape (n, dimensions) are to each other, as `nearest` scores them."""
    products = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)].astype(np.float64)
    squares = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    one, other = (squares[places] for places in np.triu_indices(len(vectors), 1))
    similarities = products
    if distance == "cosine":
        similarities = products / np.sqrt(np.maximum(one * other, 1e-24))
    elif distance == "l2":
        similarities = 1 / (1 + np.sqrt(np.maximum(0.0, one + other - 2 * products)))
    return Dispersion(float(similarities.mean()), float(similarities.std()))
