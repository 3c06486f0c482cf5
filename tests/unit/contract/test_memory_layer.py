"""Memory Layer's TOML as Providers."""

from __future__ import annotations

import contextlib
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_operator.contract.memory_layer import BrokenConfigError, parse_config, provider_name
from memory_operator.contract.resource import parse_provider
from memory_operator.plan.desired import call_config

GUIDE = """\
[embeddings]
active = "voyage-code"

[[embeddings.backends]]
name = "openai-3-small"
provider = "openai"
base_url = ""
api_key_env = "OPENAI_API_KEY"
model = "text-embedding-3-small"
batch_size = 16
# Optional for OpenAI text-embedding-3 models:
# dimensions = 512

[[embeddings.backends]]
name = "voyage-code"
provider = "voyage"
base_url = ""
api_key_env = "VOYAGE_API_KEY"
model = "voyage-code-3"
batch_size = 16

[[embeddings.backends]]
name = "ollama-nomic"
provider = "ollama"
base_url = "http://127.0.0.1:11434/v1"
api_key_env = ""
model = "nomic-embed-text"
batch_size = 16
"""


def spec_of(text: str, number: int = 0) -> Any:
    backend = parse_config(text).backends[number]
    provider = parse_provider(backend.manifest("default", backend.api_key_env))
    assert provider.problems == ()
    return provider.spec


def backend(*lines: str) -> str:
    return "\n".join(("[[embeddings.backends]]", *lines, ""))


def test_the_guide_s_file_declares_three_providers() -> None:
    config = parse_config(GUIDE)
    assert [each.provider for each in config.backends] == ["openai-3-small", "voyage-code", "ollama-nomic"]
    assert (config.enabled, config.active, config.warnings) == (True, config.backends[1], ())
    spec = spec_of(GUIDE)
    assert (spec.role, spec.type, spec.model) == ("embedding", "openai", "text-embedding-3-small")
    assert spec.credential.secret_ref.key == "OPENAI_API_KEY"
    assert (spec.embedding.batch_size, spec.embedding.dimensions) == (16, None)
    assert spec_of(GUIDE, 2).credential is None


def test_an_edited_backend_is_filled_beside_and_waits_for_a_command() -> None:
    embedding = spec_of(GUIDE).embedding
    assert (embedding.dimension_change, embedding.activation) == ("Shadow", "Manual")


@pytest.mark.parametrize(
    ("provider", "model", "url"),
    [
        ("openai", "text-embedding-3-small", "https://api.openai.com/v1"),
        ("voyage", "voyage-code-3", "https://api.voyageai.com"),
        ("voyageai", "voyage-code-3", "https://api.voyageai.com"),
        ("cohere", "embed-v4.0", "https://api.cohere.com"),
        ("gemini", "gemini-embedding-001", "https://generativelanguage.googleapis.com/v1beta"),
        ("ollama", "nomic-embed-text", "http://127.0.0.1:11434"),
    ],
)
@pytest.mark.parametrize("base_url", ['base_url = ""', ""])
def test_a_backend_without_a_base_url_goes_to_its_own_vendor(
    provider: str, model: str, url: str, base_url: str
) -> None:
    spec = spec_of(backend(f'provider = "{provider}"', f'model = "{model}"', base_url))
    assert call_config("default", spec).base_url == url


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (('provider = "voyage"', 'model = "voyage-code-3"'), "voyage-voyage-code-3"),
        (('name = ""', 'provider = "ollama"', 'model = "nomic-embed-text:latest"'), "ollama-nomic-embed-text-latest"),
        (('provider = "openai_compatible"', 'model = "BAAI/bge-m3"', 'base_url = "http://t/v1"'), None),
        (('name = "Voyage_Code"', 'provider = "voyage"', 'model = "voyage-code-3"'), "voyage-code"),
    ],
)
def test_a_backend_without_a_name_has_one_of_provider_and_model(lines: tuple[str, ...], name: str | None) -> None:
    assert parse_config(backend(*lines)).backends[0].provider == (name or "openai-compatible-baai-bge-m3")


def test_the_legacy_shape_is_one_backend_which_is_active() -> None:
    config = parse_config(
        '[embeddings]\nprovider = "voyage"\nmodel = "voyage-code-3"\napi_key_env = "VOYAGE_API_KEY"\n'
    )
    assert [each.provider for each in config.backends] == ["voyage-voyage-code-3"]
    assert config.active == config.backends[0]


def test_what_is_not_about_embeddings_is_ignored_and_what_is_not_known_there_is_warned_of() -> None:
    text = "[service]\nanything = 1\n\n[embeddings]\nspeed = 3\n\n" + backend('provider = "local"', "colour = 1")
    assert parse_config(text).warnings == (
        (5, "speed in [embeddings] is ignored"),
        (9, "colour is no key of a backend and is ignored"),
    )


def test_a_file_without_embeddings_has_no_backend() -> None:
    assert parse_config("[service]\nport = 1\n").backends == ()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "is empty"),
        ("# a comment alone\n", 1, "is empty"),
        ("[embeddings]\nactive = voyage\n", 2, "Invalid value"),
        ('[embeddings]\nactive = "voyage\n', 2, "Illegal character"),
        ("[embeddings\n", 1, "Expected"),
        ('[embeddings]\nactive = "x"\n', 2, "active names no backend"),
        ("embeddings = 3\n", 1, "embeddings must be a table"),
        ("[embeddings]\nbackends = 3\n", 2, "write each backend as [[embeddings.backends]]"),
        ('[embeddings]\nenabled = "no"\n', 2, "enabled must be true or false"),
        (backend('provider = "openai"', "model = 3"), 3, "model must be text in quotes"),
        (backend('provider = "openai"', 'dimensions = "512"'), 3, "dimensions must be a whole number"),
        (backend('provider = "openai"', "batch_size = true"), 3, "batch_size must be a whole number"),
        (backend('provider = "openai"', "create_enabled = 1"), 3, "create_enabled must be true or false"),
        (backend('provider = "openai"', 'api_key_env = "sk-proj-1234"'), 3, "not the key itself"),
        (backend('name = "a"') + backend('name = "A"'), 4, "the backend in line 1 has this name"),
        (backend('name = "___"'), 2, "must hold a letter or a digit"),
        (backend("batch_size = 3"), 1, "provider is missing"),
        (backend('model = "a\\u0000b"'), 2, "control character"),
    ],
)
def test_a_fault_is_told_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(BrokenConfigError) as broken:
        parse_config(text)
    assert (broken.value.line, reason in broken.value.reason) == (line, True), broken.value
    assert "sk-proj" not in str(broken.value)


def test_a_backend_that_cannot_work_says_why_and_where_and_breaks_no_other() -> None:
    text = backend('name = "a"', 'provider = "openai"', 'model = ""') + backend('name = "b"', 'provider = "local"')
    empty, good = parse_config(text).backends
    assert "model is required" in parse_provider(empty.manifest("default", None)).problems[0]
    assert empty.lines["spec.model"] == 4
    assert parse_provider(good.manifest("default", None)).problems == ()


KEYS = st.sampled_from(
    [
        *("embeddings", "backends", "active", "enabled", "name", "provider", "model", "base_url", "api_key_env"),
        *("batch_size", "dimensions", "create_enabled", "other"),
    ]
)
VALUES = st.one_of(
    st.sampled_from(['""', "true", "0", "nan", "1979-05-27T07:32:00Z", "[]", "{}", "'x'", '"""', "9" * 5000, "[" * 90]),
    st.integers().map(str),
    st.text(string.printable, max_size=8).map(lambda text: f'"{text}"'),
)
LINES = st.one_of(
    st.sampled_from(["[embeddings]", "[[embeddings.backends]]", "[embeddings.backends]", "[a]", "embeddings.x = 1"]),
    st.tuples(KEYS, VALUES).map(" = ".join),
    st.text(max_size=12),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=14).map("\n".join))
def test_no_text_of_a_file_is_more_than_a_broken_file(text: str) -> None:
    with contextlib.suppress(BrokenConfigError):
        for each in parse_config(text).backends:
            parse_provider(each.manifest("default", each.api_key_env))
            assert 1 <= each.line <= text.count("\n") + 1


@given(st.text(max_size=60))
def test_a_name_is_one_of_a_provider_or_nothing(name: str) -> None:
    provider = provider_name(name)
    assert provider == provider_name(provider)
    assert set(provider) <= set(string.ascii_lowercase + string.digits + "-.")
    assert all(part and part.strip("-") == part for part in provider.split(".")) or not provider
