"""Each vendor's form as a test needs it: where it is, what is sent in it, and what its key is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vendor import StubVendor

MODEL = "m"


@dataclass(frozen=True, slots=True)
class Form:
    """One form; the functions take the stub vendor, or the texts and the mode."""

    type: str
    path: str
    """After the stub's root."""
    url: Callable[[StubVendor], str]
    body: Callable[[list[str], str], dict[str, Any]]
    """The whole request, without dimensions."""
    sized: Callable[[int], dict[str, Any]]
    """What asking for a length adds to it, or to each request in it."""
    key: Callable[[str], tuple[str, str]]
    """Header and value of a key."""
    fields: dict[str, Any]
    """Further fields of the configuration."""


def _bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def _gemini(texts: list[str], mode: str) -> dict[str, Any]:
    task = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}[mode]
    return {
        "requests": [{"model": "models/m", "taskType": task, "content": {"parts": [{"text": text}]}} for text in texts]
    }


OPENAI = Form(
    type="openai",
    path="/v1/embeddings",
    url=lambda vendor: vendor.base_url,
    body=lambda texts, _: {"model": MODEL, "input": texts, "encoding_format": "base64"},
    sized=lambda length: {"dimensions": length},
    key=_bearer,
    fields={},
)
OLLAMA = Form(
    type="ollama",
    path="/api/embed",
    url=lambda vendor: vendor.root_url,
    body=lambda texts, _: {"model": MODEL, "input": texts, "truncate": False},
    sized=lambda length: {"dimensions": length},
    key=_bearer,
    fields={},
)
VOYAGE = Form(
    type="voyageai",
    path="/v1/embeddings",
    url=lambda vendor: vendor.root_url,
    body=lambda texts, mode: {
        "model": MODEL,
        "input": texts,
        "input_type": mode,
        "truncation": False,
        "encoding_format": "base64",
    },
    sized=lambda length: {"output_dimension": length},
    key=_bearer,
    fields={},
)
COHERE = Form(
    type="cohere",
    path="/v2/embed",
    url=lambda vendor: vendor.root_url,
    body=lambda texts, mode: {
        "model": MODEL,
        "texts": texts,
        "input_type": f"search_{mode}",
        "embedding_types": ["float"],
        "truncate": "NONE",
    },
    sized=lambda length: {"output_dimension": length},
    key=_bearer,
    fields={},
)
GEMINI = Form(
    type="gemini",
    path="/v1beta/models/m:batchEmbedContents",
    url=lambda vendor: f"{vendor.root_url}/v1beta",
    body=_gemini,
    sized=lambda length: {"outputDimensionality": length},
    key=lambda key: ("x-goog-api-key", key),
    fields={},
)
AZURE = Form(
    type="openai",
    path="/openai/deployments/m/embeddings?api-version=2024-10-21",
    url=lambda vendor: vendor.root_url,
    body=OPENAI.body,
    sized=OPENAI.sized,
    key=lambda key: ("api-key", key),
    fields={"platform": {"type": "azure"}, "auth_type": "accessKey"},
)
ALL = {"openai": OPENAI, "ollama": OLLAMA, "voyageai": VOYAGE, "cohere": COHERE, "gemini": GEMINI, "azure": AZURE}
