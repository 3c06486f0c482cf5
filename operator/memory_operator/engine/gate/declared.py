"""What a Provider declares, as far as others than its own reconcile need to know."""

from __future__ import annotations

from memory_operator.contract.fields import duration_seconds
from memory_operator.contract.known_models import column_limit
from memory_operator.contract.provider import EmbeddingSpec, ProviderSpec
from memory_operator.contract.resource import ProviderObject
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.errors import MemoryOperatorError
from memory_operator.memory.preprocess import PREPROCESSING_VERSION
from memory_operator.plan.desired import call_config, declared_dimension, rerank_config, reshape_target, space_config
from memory_operator.plan.gate import gate_config
from memory_operator.store.spaces import providers


def is_ours(source: ProviderSource, provider: ProviderObject) -> bool:
    """Whether a Provider is an embedding one in a served namespace. One that cannot be read may be."""
    return source.serves(provider.ref.namespace) and provider.may_embed


def declared_spec(provider: ProviderObject) -> providers.DeclaredSpec | None:
    """What the store keeps of a spec; nothing of one that cannot be read."""
    spec = provider.spec
    if spec is None:
        return None
    embedding = spec.embedding or EmbeddingSpec()
    return providers.DeclaredSpec(
        embedding.activation or "Automatic",
        embedding.column_type or "vector",
        reshape_target(spec),
        _declared_identity(provider.ref.namespace, spec),
        rerank_config(provider.ref.namespace, spec),
        column_limit(embedding.column_type or "vector", embedding.index or "hnsw"),
        None if embedding.keep_for is None else duration_seconds(embedding.keep_for, least=0),
        gate_config(embedding),
    )


def _declared_identity(namespace: str, spec: ProviderSpec) -> str | None:
    dimension = declared_dimension(spec)
    if dimension is None:
        return None
    try:
        return space_config(call_config(namespace, spec), spec, dimension, PREPROCESSING_VERSION).identity
    except MemoryOperatorError:
        return None
