"""From a Provider's spec to the configuration of calls, and to the identity of a space."""

from __future__ import annotations

from typing import Any

import pytest

from memory_operator.contract.provider import ProviderSpec
from memory_operator.plan.desired import call_config, rerank_config, space_config
from memory_operator.plan.space import (
    CallConfig,
    CredentialRef,
    PlatformConfig,
    RerankConfig,
    SecretKeyConfig,
    SpaceConfig,
    input_mode,
)

ENDPOINT = "https://mine.openai.azure.com"


def desired(**spec: Any) -> CallConfig:
    given = {"type": "openai", "role": "embedding", "model": "small", **spec}
    return call_config("agents", ProviderSpec.model_validate(given))


def azure(auth: dict[str, Any], **spec: Any) -> CallConfig:
    return desired(platform={"type": "azure", "endpoint": f"{ENDPOINT}/"}, auth=auth, **spec)


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("openai", "https://api.openai.com/v1"),
        ("voyageai", "https://api.voyageai.com"),
        ("cohere", "https://api.cohere.com"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ("vllm", None),
        ("huggingface", None),
    ],
)
def test_a_base_url_that_is_left_out_is_the_types_own_and_no_other_vendors(kind: str, url: str | None) -> None:
    assert desired(type=kind).base_url == url


def test_azure_is_called_at_the_platforms_endpoint_and_never_at_openais() -> None:
    config = azure({"type": "accessKey"})
    assert config.base_url == ENDPOINT
    assert config.auth_type == "accessKey"
    without = desired(platform={"type": "azure"}, auth={"type": "accessKey"})
    assert without.base_url is None


def test_azures_key_may_be_named_as_the_credential_or_with_the_platform() -> None:
    named = azure({"type": "accessKey"}, credential={"secretRef": {"name": "a", "key": "k"}})
    assert named.credential == CredentialRef(secret=SecretKeyConfig(name="a", key="k"))
    beside = azure({"type": "accessKey", "credentialsSecretRef": {"name": "b"}})
    assert beside.credential == CredentialRef(secret=SecretKeyConfig(name="b"))


def test_a_workload_identity_reads_no_secret() -> None:
    config = azure({"type": "workloadIdentity"}, credential={"secretRef": {"name": "a"}})
    assert config.credential is None
    assert config.auth_type == "workloadIdentity"


def space(**fields: Any) -> SpaceConfig:
    given = {"namespace": "agents", "preprocessing_version": 1, "type": "openai", "model": "m", "dimensions": 3}
    return SpaceConfig.model_validate({**given, **fields})


def test_the_identity_of_a_space_stays_as_stores_have_it() -> None:
    small = {"base_url": "https://api.openai.com/v1", "model": "text-embedding-3-small", "dimensions": 1536}
    assert space(**small).identity_of_0_1 == (
        "openai|https://api.openai.com/v1|text-embedding-3-small|1536#86196b26162964a4"
    )
    voyage = {"type": "voyageai", "base_url": "https://api.voyageai.com", "model": "voyage-3.5", "dimensions": 1024}
    assert space(**voyage, column_type="halfvec").identity_of_0_1 == (
        "voyageai|https://api.voyageai.com|voyage-3.5|1024#36f7d6100ada4f92"
    )


def test_how_a_platform_is_told_who_calls_makes_no_other_space() -> None:
    on_azure = {"base_url": ENDPOINT, "platform": PlatformConfig(type="azure", endpoint=ENDPOINT)}
    by_key, by_identity = (space(**on_azure, auth_type=way) for way in ("accessKey", "workloadIdentity"))
    assert by_key.identity == by_identity.identity
    assert by_key.identity != space(base_url=ENDPOINT).identity


@pytest.mark.parametrize(
    ("kind", "document", "query"),
    [
        ("voyageai", "document", "query"),
        ("cohere", "search_document", "search_query"),
        ("gemini", "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"),
    ],
)
def test_each_vendor_has_its_own_words_for_the_modes(kind: str, document: str, query: str) -> None:
    assert (input_mode(kind, "document"), input_mode(kind, "query")) == (document, query)


def reranking(rerank: dict[str, Any], **spec: Any) -> RerankConfig | None:
    given = {"type": "openai", "role": "embedding", "model": "small", "embedding": {"rerank": rerank}, **spec}
    return rerank_config("agents", ProviderSpec.model_validate(given))


def test_a_rerank_api_on_the_providers_own_server_has_its_key_headers_and_private_ca() -> None:
    config = reranking(
        {"model": "r", "top": 5, "timeout": "500ms", "inputCostPer1K": "0.00005"},
        type="cohere",
        credential={"secretRef": {"name": "own", "key": "k"}},
        headers={"X-Team": "a"},
        embedding={"rerank": {"model": "r", "top": 5, "timeout": "500ms"}, "caSecretRef": {"name": "ca"}},
    )
    assert config is not None
    assert (config.form, config.type, config.base_url) == ("Cohere", "cohere", "https://api.cohere.com")
    assert config.credential == CredentialRef(secret=SecretKeyConfig(name="own", key="k"))
    assert (config.headers, config.ca_secret) == ({"X-Team": "a"}, SecretKeyConfig(name="ca"))
    assert (config.model, config.top, config.timeout_seconds, config.always) == ("r", 5, 0.5, True)


def test_a_rerank_api_elsewhere_never_sees_the_providers_own_key_or_headers() -> None:
    config = reranking(
        {"form": "Jina", "baseURL": "https://api.jina.ai/", "model": "r", "when": "OnRequest"},
        credential={"secretRef": {"name": "own"}},
        headers={"Authorization": "Bearer own"},
    )
    assert config is not None
    assert (config.type, config.base_url, config.elsewhere) == ("jina", "https://api.jina.ai", True)
    assert (config.credential, config.headers, config.ca_secret) == (None, {}, None)
    assert (config.top, config.timeout_seconds, config.always) == (30, 2.0, False)
    keyed = reranking({"form": "TEI", "baseURL": "http://t", "secretRef": {"name": "s"}, "caSecretRef": {"name": "c"}})
    assert keyed is not None
    assert keyed.credential == CredentialRef(secret=SecretKeyConfig(name="s"))
    assert keyed.ca_secret == SecretKeyConfig(name="c")


def test_a_provider_without_a_rerank_api_has_none() -> None:
    assert rerank_config("agents", ProviderSpec.model_validate({"type": "mock", "role": "embedding"})) is None


def test_the_rerank_api_is_no_part_of_a_spaces_snapshot_or_identity() -> None:
    def snapshot(embedding: dict[str, Any]) -> SpaceConfig:
        spec = ProviderSpec.model_validate(
            {"type": "cohere", "role": "embedding", "model": "m", "embedding": {"dimensions": 8, **embedding}}
        )
        return space_config(call_config("agents", spec), spec, 8, 1)

    assert snapshot({"rerank": {"model": "r"}}) == snapshot({})
