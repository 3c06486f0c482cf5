"""Which Provider types have an embedder, and how much one of their calls may carry."""

from __future__ import annotations

from memory_operator.contract.known_models import AZURE as AZURE_PLATFORM
from memory_operator.embedders.parts import EmbedderType
from memory_operator.embedders.vendors.azure import AZURE
from memory_operator.embedders.vendors.cohere import COHERE
from memory_operator.embedders.vendors.gemini import GEMINI
from memory_operator.embedders.vendors.local import LOCAL
from memory_operator.embedders.vendors.mock import MOCK
from memory_operator.embedders.vendors.ollama import OLLAMA
from memory_operator.embedders.vendors.openai import COMPATIBLE, HUGGINGFACE, OPENAI, VLLM
from memory_operator.embedders.vendors.voyageai import VOYAGEAI
from memory_operator.errors import UnsupportedType
from memory_operator.plan.space import CallConfig

EMBEDDER_TYPES: dict[str, EmbedderType] = {
    each.name: each for each in (OPENAI, COMPATIBLE, VOYAGEAI, GEMINI, COHERE, OLLAMA, VLLM, HUGGINGFACE, LOCAL, MOCK)
}
_AZURE_TYPES = (OPENAI.name, COMPATIBLE.name)


def embedder_type(config: CallConfig) -> EmbedderType:
    """The embedder type for `config`.

    Raises:
        UnsupportedType: none is built for its type or its platform.
    """
    choice = f"use {', '.join(EMBEDDER_TYPES)}, or openai on platform {AZURE_PLATFORM}"
    if config.platform is not None:
        if config.platform.type != AZURE_PLATFORM or config.type not in _AZURE_TYPES:
            raise UnsupportedType(
                f"Provider type {config.type} on platform {config.platform.type} has no embedder", hint=choice
            )
        return AZURE
    found = EMBEDDER_TYPES.get(config.type)
    if found is None:
        raise UnsupportedType(f"Provider type {config.type} has no embedder", hint=choice)
    return found


def batch_limit(config: CallConfig) -> int:
    """Most texts to put into one call: what the Provider declares, within what its type allows.

    Raises:
        UnsupportedType: as `embedder_type`.
    """
    limits = embedder_type(config)
    return max(1, min(config.batch_size or limits.default_batch_size, limits.max_inputs))


def calls_a_vendor(config: CallConfig) -> bool:
    """Whether embedding under `config` sends requests to a vendor, which may charge for them.

    Raises:
        UnsupportedType: as `embedder_type`.
    """
    return embedder_type(config).calls_a_vendor


def token_limits(config: CallConfig) -> tuple[int | None, int | None]:
    """Most tokens in one call and in one text; None where the type's vendor names no limit.

    Raises:
        UnsupportedType: as `embedder_type`.
    """
    limits = embedder_type(config)
    per_request = limits.max_tokens_per_request_of.get(config.model, limits.max_tokens_per_request)
    return per_request, limits.max_tokens_per_text
