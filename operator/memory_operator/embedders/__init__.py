"""The only place that knows embedding APIs.

One pool for each event loop makes the embedders; what they cannot do is told by the errors of `errors.py`.
"""

from memory_operator.embedders.base import PROBE_TEXT, Embedder, EmbedderType, Embeddings, Meter, probe
from memory_operator.embedders.pool import EmbedderPool
from memory_operator.embedders.registry import BUILT, batch_limit, calls_a_vendor, embedder_type, token_limits

__all__ = [
    "BUILT",
    "PROBE_TEXT",
    "Embedder",
    "EmbedderPool",
    "EmbedderType",
    "Embeddings",
    "Meter",
    "batch_limit",
    "calls_a_vendor",
    "embedder_type",
    "probe",
    "token_limits",
]
