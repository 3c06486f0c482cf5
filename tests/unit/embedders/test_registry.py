from __future__ import annotations

import pytest

from memory_operator.embedders import BUILT, batch_limit, token_limits
from memory_operator.errors import ConfigurationError, UnsupportedType
from memory_operator.plan.space import CallConfig, Platform


def config(type_: str = "openai", **fields: object) -> CallConfig:
    return CallConfig.model_validate({"namespace": "agents", "type": type_, "model": "m", **fields})


@pytest.mark.parametrize("type_", ["voyageai", "gemini", "cohere", "claude"])
async def test_a_type_that_is_not_built_is_named_with_those_that_are(pool, type_):
    with pytest.raises(UnsupportedType, match=f"^Provider type {type_} is not built yet; built are openai, "):
        pool.embedder(config(type_), "key", None)


async def test_a_platform_is_not_built_yet(pool):
    azure = config(platform=Platform(type="azure", endpoint="https://x.openai.azure.com"))
    with pytest.raises(UnsupportedType, match=r"^Platform azure is not built yet"):
        pool.embedder(azure, "key", None)


def test_a_batch_is_what_the_provider_declares_within_what_its_type_allows():
    assert batch_limit(config()) == 256
    assert batch_limit(config(batch_size=10)) == 10
    assert batch_limit(config(batch_size=10_000)) == 2048
    assert batch_limit(config("ollama")) == 64


def test_token_limits_are_those_of_the_vendor():
    assert token_limits(config()) == (300_000, 8192)
    assert token_limits(config("ollama")) == (None, None)


def test_every_built_type_is_listed_under_its_name():
    assert {name: built.name for name, built in BUILT.items()} == {name: name for name in BUILT}
    assert set(BUILT) == {"openai", "openai_compatible", "ollama", "local", "mock"}


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
@pytest.mark.parametrize("type_", ["openai", "openai_compatible", "ollama"])
async def test_a_base_url_that_cannot_be_used_is_refused_without_being_shown(pool, type_, base_url):
    with pytest.raises(ConfigurationError) as refused:
        pool.embedder(config(type_, base_url=base_url), None, None)
    assert "secret" not in str(refused.value) + refused.value.hint
    assert refused.value.hint
