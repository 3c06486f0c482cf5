from __future__ import annotations

import pytest

from memory_operator.embedders import EMBEDDER_TYPES, batch_limit, calls_a_vendor, token_limits
from memory_operator.errors import ConfigurationError, UnsupportedType
from memory_operator.plan.space import CallConfig, PlatformConfig


def config(type_: str = "openai", **fields: object) -> CallConfig:
    return CallConfig.model_validate({"namespace": "agents", "type": type_, "model": "m", **fields})


@pytest.mark.parametrize("type_", ["claude", "cartesia", "imagen"])
async def test_a_type_without_an_embedder_is_named_with_those_that_have_one(pool, type_):
    with pytest.raises(UnsupportedType, match=f"^Provider type {type_} has no embedder") as refused:
        pool.embedder(config(type_), "key", None)
    assert refused.value.hint.startswith("use openai, openai_compatible, voyageai, gemini, cohere, ollama, ")


@pytest.mark.parametrize(("platform", "type_"), [("bedrock", "openai"), ("vertex", "gemini"), ("azure", "cohere")])
async def test_a_platform_without_an_embedder_is_named(pool, platform, type_):
    with pytest.raises(UnsupportedType, match=f"^Provider type {type_} on platform {platform} has no embedder"):
        pool.embedder(config(type_, platform=PlatformConfig(type=platform)), "key", None)


def test_a_batch_is_what_the_provider_declares_within_what_its_type_allows():
    assert batch_limit(config()) == 256
    assert batch_limit(config(batch_size=10)) == 10
    assert batch_limit(config(batch_size=10_000)) == 2048
    assert batch_limit(config("ollama")) == 64


def test_token_limits_are_those_of_the_vendor():
    assert token_limits(config()) == (300_000, 8192)
    assert token_limits(config("ollama")) == (None, None)
    assert token_limits(config("voyageai", model="voyage-3.5-lite")) == (1_000_000, 32_000)
    assert token_limits(config("voyageai", model="voyage-3-large")) == (120_000, 32_000)
    assert token_limits(config("gemini")) == (None, 2048)
    assert token_limits(config(platform=PlatformConfig(type="azure"))) == (300_000, 8192)


def test_a_batch_is_never_more_than_the_vendor_takes():
    most = {"openai": 2048, "voyageai": 1000, "cohere": 96, "gemini": 100}
    assert {type_: batch_limit(config(type_, batch_size=2048)) for type_ in most} == most


def test_every_built_type_is_listed_under_its_name():
    assert {name: each.name for name, each in EMBEDDER_TYPES.items()} == {name: name for name in EMBEDDER_TYPES}
    vendors = {"openai", "openai_compatible", "voyageai", "gemini", "cohere", "ollama", "vllm", "huggingface"}
    assert set(EMBEDDER_TYPES) == {*vendors, "local", "mock"}
    assert {name for name in EMBEDDER_TYPES if calls_a_vendor(config(name))} == vendors


@pytest.mark.parametrize(
    "base_url",
    [
        None,
        "",
        "api.example.com/v1",
        "ftp://api.example.com/v1",
        "https:///v1",
        "https://user:secret@api.example.com/v1",
        "https://api.example.com/v1?key=secret",
        "https://api.example.com/v1#secret",
        "https://api.example.com:port/v1",
        "https://api.example.com/v 1",
        "https://api.example.com/v1\r\nX: secret",
        "https://[::1/v1",
    ],
)
@pytest.mark.parametrize("type_", ["openai", "openai_compatible", "ollama", "voyageai", "cohere", "gemini"])
async def test_a_base_url_that_cannot_be_used_is_refused_without_being_shown(pool, type_, base_url):
    with pytest.raises(ConfigurationError) as refused:
        pool.embedder(config(type_, base_url=base_url), None, None)
    assert "secret" not in str(refused.value) + refused.value.hint
    assert refused.value.hint
