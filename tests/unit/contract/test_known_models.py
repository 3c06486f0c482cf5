"""What is known of vendors and models without asking them."""

from __future__ import annotations

import pytest

from memory_operator.contract.known_models import (
    can_make,
    column_limit,
    default_model,
    default_secret_keys,
    known_dimension,
    needs_credential,
)


@pytest.mark.parametrize(
    ("kind", "model", "dimension"),
    [
        ("openai", "text-embedding-3-small", 1536),
        ("ollama", "nomic-embed-text", 768),
        ("ollama", "nomic-embed-text:v1.5", 768),
        ("openai", "nomic-embed-text:v1.5", None),
        ("openai", "Text-Embedding-3-Small", None),
        ("openai", "", None),
        ("local", "", 256),
        ("local", "multilingual-e5-small", 384),
        ("local", "no-such-model", None),
    ],
)
def test_a_dimension_is_known_by_the_exact_name_without_the_tag_of_ollama(
    kind: str, model: str, dimension: int | None
) -> None:
    assert known_dimension(kind, model) == dimension


def test_a_mock_with_the_name_of_a_real_model_has_the_dimension_of_a_mock() -> None:
    assert known_dimension("mock", "text-embedding-3-small") is None
    assert can_make("mock", "text-embedding-3-small", 64) is None


def test_a_local_provider_needs_neither_model_nor_credential() -> None:
    assert default_model("local") == "wordllama"
    assert default_model("openai") == ""
    assert not needs_credential("local")


@pytest.mark.parametrize("kind", ["openai", "openai_compatible", "gemini", "voyageai", "cohere", "ollama", "vllm"])
def test_api_key_is_the_last_key_that_is_looked_for(kind: str) -> None:
    assert default_secret_keys(kind)[-1] == "api-key"


def test_a_vendor_is_never_offered_the_key_of_another() -> None:
    assert default_secret_keys("openai") == ("OPENAI_API_KEY", "OPENAI_TOKEN", "api-key")
    assert default_secret_keys("voyageai") == ("VOYAGE_API_KEY", "api-key")
    assert default_secret_keys("cohere") == ("COHERE_API_KEY", "CO_API_KEY", "api-key")
    assert default_secret_keys("gemini") == ("GEMINI_API_KEY", "GOOGLE_API_KEY", "api-key")
    assert default_secret_keys("openai", "azure") == ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY", "api-key")


def test_a_workload_identity_needs_no_credential() -> None:
    assert needs_credential("openai", "accessKey")
    assert not needs_credential("openai", "workloadIdentity")


def test_the_limits_are_those_of_the_index() -> None:
    assert (column_limit("vector"), column_limit("halfvec")) == (2000, 4000)
    assert [column_limit("vector", index) for index in ("auto", "hnsw", "hnsw-halfvec", "hnsw-binary", "none")] == [
        *(2000, 2000),
        *(4000, 4000, 4000),
    ]
