"""What is known of vendors and models without asking them. Sources: the vendors' model pages, 2026."""

from __future__ import annotations

from collections.abc import Collection

AZURE = "azure"
"""The platform type of models of OpenAI on Azure."""
WORKLOAD_IDENTITY = "workloadIdentity"
"""The auth type under which the process itself is known to the platform, and no credential is stored."""

_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
    "nomic-embed-text": 768,
    "mxbai-embed-large": 1024,
    "all-minilm": 384,
    "bge-m3": 1024,
    "bge-small": 384,
    "bge-base": 768,
    "bge-large": 1024,
    "snowflake-arctic-embed-s": 384,
    "snowflake-arctic-embed-m": 768,
    "snowflake-arctic-embed-l": 1024,
    "voyage-4": 1024,
    "voyage-4-large": 1024,
    "voyage-4-lite": 1024,
    "voyage-3.5": 1024,
    "voyage-3.5-lite": 1024,
    "voyage-3-large": 1024,
    "voyage-code-3": 1024,
    "gemini-embedding-001": 3072,
    "text-embedding-004": 768,
    "embed-v4.0": 1536,
    "embed-english-v3.0": 1024,
    "embed-multilingual-v3.0": 1024,
}
_VOYAGE_LENGTHS = (256, 512, 1024, 2048)
_LOCAL_MODEL = "wordllama"
_LOCAL_LENGTHS = {_LOCAL_MODEL: (256, 128, 64), "multilingual-e5-small": (384,)}
"""Of the models that ship in Python packages, the longest first."""
_SHORTER: dict[str, Collection[int]] = {
    "text-embedding-3-small": range(1, 1537),
    "text-embedding-3-large": range(1, 3073),
    "voyage-4": _VOYAGE_LENGTHS,
    "voyage-4-large": _VOYAGE_LENGTHS,
    "voyage-4-lite": _VOYAGE_LENGTHS,
    "voyage-3.5": _VOYAGE_LENGTHS,
    "voyage-3.5-lite": _VOYAGE_LENGTHS,
    "voyage-3-large": _VOYAGE_LENGTHS,
    "voyage-code-3": _VOYAGE_LENGTHS,
    "gemini-embedding-001": range(128, 3073),
    "embed-v4.0": (256, 512, 1024, 1536),
}
"""Lengths that a model can be asked for. Those that are not here have the one that is known of them."""
_BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "ollama": "http://127.0.0.1:11434",
    "voyageai": "https://api.voyageai.com",
    "cohere": "https://api.cohere.com",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
_SECRET_KEYS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_TOKEN"),
    "openai_compatible": ("OPENAI_API_KEY", "OPENAI_TOKEN"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "voyageai": ("VOYAGE_API_KEY",),
    "jina": ("JINA_API_KEY",),
}
_AZURE_SECRET_KEYS = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
_KEYLESS = frozenset({"ollama", "openai_compatible", "vllm", "huggingface", "local", "mock"})
_EMBEDDING_TYPES = frozenset({"openai", "voyageai", "gemini", "cohere"}) | _KEYLESS
_COLUMN_LIMITS = {"vector": 2000, "halfvec": 4000}
_WIDE_INDEXES = {"hnsw-halfvec", "hnsw-binary", "none"}
DEFAULT_M = 16
DEFAULT_EF_CONSTRUCTION = 64


def known_dimension(provider_type: str, model: str) -> int | None:
    """Length of a model's vectors; None where only a call can tell. Ollama's `:tag` does not matter."""
    if provider_type == "local":
        return _LOCAL_LENGTHS.get(model or _LOCAL_MODEL, (None,))[0]
    if provider_type == "mock":
        return None  # it takes any model's name, and its vectors have one length for all of them
    return _DIMENSIONS.get(_bare(provider_type, model))


def can_make(provider_type: str, model: str, dimensions: int) -> bool | None:
    """Whether a model can be asked for vectors of this length; None where only a call can tell."""
    if provider_type == "local":
        return dimensions in _LOCAL_LENGTHS.get(model or _LOCAL_MODEL, ())
    known = known_dimension(provider_type, model)
    if known is None or (provider_type == "ollama" and dimensions < known):
        return None  # Ollama shortens the vectors of any model, in the versions that know the parameter
    return dimensions == known or dimensions in _SHORTER.get(_bare(provider_type, model), ())


def reads_context(provider_type: str, model: str) -> bool:
    """Whether a model reads a text's words in their context; the local default adds up vectors of single words."""
    return provider_type != "mock" and (provider_type, model or _LOCAL_MODEL) != ("local", _LOCAL_MODEL)


def _bare(provider_type: str, model: str) -> str:
    return model.partition(":")[0] if provider_type == "ollama" else model


def default_model(provider_type: str) -> str:
    """The model of a type when the Provider names none; "" where there is none."""
    return _LOCAL_MODEL if provider_type == "local" else ""


def default_base_url(provider_type: str) -> str | None:
    """A type's own base URL; None where there is none, or it must be given."""
    return _BASE_URLS.get(provider_type)


def default_secret_keys(provider_type: str, platform_type: str | None = None) -> tuple[str, ...]:
    """Keys looked for in a Secret when the Provider names none, in this order. A platform has its own."""
    own = _AZURE_SECRET_KEYS if platform_type == AZURE else _SECRET_KEYS.get(provider_type, ())
    return (*own, "api-key")


def needs_credential(provider_type: str, auth_type: str | None = None) -> bool:
    """Whether a Provider of this type, with this `spec.auth.type`, cannot work without a credential."""
    return auth_type != WORKLOAD_IDENTITY and provider_type not in _KEYLESS


def column_limit(column_type: str, index: str = "hnsw") -> int:
    """Most dimensions that an index of this kind on a column of this type can have (pgvector 0.8).

    Of more than 2,000 only what was asked for by name is built: what is chosen by itself stays within the limit.
    """
    return _COLUMN_LIMITS["halfvec" if index in _WIDE_INDEXES else column_type]


def can_embed(provider_type: str) -> bool:
    """Whether this type has an embedding API that memory-operator speaks."""
    return provider_type in _EMBEDDING_TYPES
