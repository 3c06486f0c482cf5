"""The comparison of §4 as a question: what would happen to each Provider, asked without doing it."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.contract.resource import ProviderObject
from memory_operator.embedders import probe
from memory_operator.engine.embedding.connector import PROBE_SECONDS, Connector
from memory_operator.engine.gate.declared import is_ours
from memory_operator.engine.gate.snapshot import read_view
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.errors import MemoryOperatorError
from memory_operator.memory.preprocess import PREPROCESSING_VERSION
from memory_operator.plan.consent import consent_message
from memory_operator.plan.decide import Beside, Create, Desired, Duplicate, Hold, Keep, Reshape, decide
from memory_operator.plan.desired import call_config, declared_dimension, space_config
from memory_operator.store.db.pool import Store


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a check found about one Provider."""

    provider: str
    outcome: str
    """settled, held, create, fill beside, reshape, duplicate, error."""
    message: str


async def compare(store: Store, source: ProviderSource, connector: Connector) -> list[Comparison]:
    """Compare all Providers, oldest first. Raises SourceUnavailable, StoreUnavailable."""
    listed = sorted((await source.list()).whole(), key=lambda provider: (provider.created_at, provider.ref))
    return [await _one(store, provider, connector) for provider in listed if is_ours(source, provider)]


async def _one(store: Store, provider: ProviderObject, connector: Connector) -> Comparison:
    name = str(provider.ref)
    if provider.spec is None:
        return Comparison(name, "error", "; ".join(provider.problems))
    try:
        call = call_config(provider.ref.namespace, provider.spec)
        dimension = declared_dimension(provider.spec)
        if dimension is None:
            dimension = await probe(await connector.embedder(call), PROBE_SECONDS)
        config = space_config(call, provider.spec, dimension, PREPROCESSING_VERSION)
        view = await read_view(store, provider, config)
    except MemoryOperatorError as error:
        return Comparison(name, "error", f"{error.message}; {error.hint}".rstrip("; "))
    embedding = provider.spec.embedding
    shadow = embedding is not None and embedding.dimension_change == "Shadow"
    desired = Desired(config, "Shadow" if shadow else "InPlace")
    match decide(desired, view.applied_now, view.beside_now, view.existing, view.consent):
        case Keep():
            return Comparison(name, "settled", f"dimension {dimension}")
        case Create():
            return Comparison(name, "create", f"a space of dimension {dimension} will be made")
        case Beside():
            return Comparison(name, "fill beside", f"{config.key} is filled beside the applied space")
        case Duplicate(owner, _):
            return Comparison(name, "duplicate", f"Provider {owner} has the space {config.key}")
        case Reshape():
            return Comparison(name, "reshape", f"the change to dimension {dimension} is allowed and will be applied")
        case Hold(word):
            applied = view.applied.dimensions if view.applied else 0
            return Comparison(name, "held", consent_message(applied, dimension, view.vectors, word))
