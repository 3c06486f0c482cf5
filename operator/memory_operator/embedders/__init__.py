"""The only place that knows embedding and rerank APIs.

One pool for each event loop makes the embedders; their failures are the errors of `errors.py`.
"""

from memory_operator.embedders.base import (
    PROBE_TEXT,
    Embedder,
    Embeddings,
    Meter,
    Relevance,
    Reranker,
    probe,
    with_prefix,
)
from memory_operator.embedders.pool import EmbedderPool
from memory_operator.embedders.registry import EMBEDDER_TYPES, batch_limit, calls_a_vendor, token_limits

__all__ = [
    "EMBEDDER_TYPES",
    "PROBE_TEXT",
    "Embedder",
    "EmbedderPool",
    "Embeddings",
    "Meter",
    "Relevance",
    "Reranker",
    "batch_limit",
    "calls_a_vendor",
    "probe",
    "token_limits",
    "with_prefix",
]
