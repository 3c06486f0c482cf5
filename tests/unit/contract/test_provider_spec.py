"""Reading Providers: what is accepted, and what is said of what is not."""

from __future__ import annotations

from typing import Any

import pytest

from memory_operator.contract.fields import duration_seconds
from memory_operator.contract.resource import ProviderObject, parse_provider


def provider(spec: Any, annotations: dict[str, str] | None = None) -> ProviderObject:
    metadata = {"name": "memory-embeddings", "namespace": "agents", "annotations": annotations or {}}
    return parse_provider({"metadata": metadata, "spec": spec})


def problem(spec: Any) -> str:
    found = provider(spec)
    assert found.spec is None
    return "\n".join(found.problems)


TEI = "http://tei.models.svc"
SEED = {"role": "embedding", "type": "ollama", "model": "nomic-embed-text", "embedding": {"dimensions": 768}}


def test_the_first_manifest_of_the_documentation_is_read() -> None:
    spec = provider(SEED).spec
    assert spec is not None
    assert (spec.role, spec.type, spec.model) == ("embedding", "ollama", "nomic-embed-text")
    assert spec.embedding is not None
    assert spec.embedding.dimensions == 768


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"modle": "x"}, "spec.modle: unknown field; did you mean model?"),
        ({"embedding": {"dimension": 1}}, "spec.embedding.dimension: unknown field; did you mean dimensions?"),
        ({"embedding": {"limits": {"requestPerMinute": 1}}}, "unknown field; did you mean requestsPerMinute?"),
        (
            {"credential": {"secretRef": {"nme": "x"}}},
            "spec.credential.secretRef.nme: unknown field; did you mean name?",
        ),
        ({"base_url": "http://x"}, "spec.base_url: unknown field"),
        ({"embedding": {"create_enabled": True}}, "create_enabled: unknown field; did you mean createEnabled?"),
        ({"role": "embeding"}, "spec.role: is none of embedding, "),
        ({"type": "olama"}, "; did you mean ollama?"),
        ({"type": None}, "spec.type: is none of"),
        ({"headers": ["x"]}, "spec.headers: has to be a map"),
        ({"pricing": {"inputCostPer1K": 0.01}}, "spec.pricing.inputCostPer1K: is no text; put it in quotes"),
        ({"pricing": {"inputCostPer1K": "1e-3"}}, "spec.pricing.inputCostPer1K: is no decimal number such as"),
        ({"defaults": {"requestTimeout": "90"}}, "spec.defaults.requestTimeout: is not a duration such as"),
        ({"embedding": {"keepFor": "1d"}}, "spec.embedding.keepFor: is not a duration such as"),
        ({"embedding": {"keepFor": "8761h"}}, "spec.embedding.keepFor: at most 8760h, a year"),
        ({"model": None}, "spec.model: model is required unless type is mock or local"),
        ({"role": "llm", "embedding": {}}, "spec.embedding: embedding may only"),
        ({"role": "llm"}, "spec.embedding: embedding may only be given with role embedding"),
        ({"platform": {"type": "azure"}}, "spec.platform: platform and auth are given together or not at all"),
        ({"type": "openai_compatible"}, "spec.baseURL: baseURL is required for type openai_compatible"),
        ({"credential": {"envVar": "A", "filePath": "/b"}}, "at most one of secretRef, envVar and filePath"),
        ({"embedding": {"dimensions": 4097}}, "spec.embedding.dimensions: "),
        ({"embedding": {"dimensions": "768"}}, "spec.embedding.dimensions: "),
        ({"defaults": {"requestTimeout": "0s"}}, "spec.defaults.requestTimeout: "),
        ({"embedding": {"rerank": {}}}, "spec.embedding.rerank.baseURL: baseURL is required"),
        ({"type": "cohere", "embedding": {"rerank": {}}}, "spec.embedding.rerank.model: model is required"),
        ({"type": "cohere", "embedding": {"rerank": {"baseURL": TEI}}}, "spec.embedding.rerank: form is required with"),
        ({"type": "cohere", "embedding": {"rerank": {"modle": "m"}}}, "modle: unknown field; did you mean model?"),
        (
            {"embedding": {"rerank": {"form": "Tei", "baseURL": TEI}}},
            "rerank.form: is none of Cohere, Jina, TEI, Voyage",
        ),
        (
            {"embedding": {"rerank": {"form": "TEI", "baseURL": f"{TEI}?a=b"}}},
            "spec.embedding.rerank.baseURL: a base URL",
        ),
        (
            {"type": "cohere", "embedding": {"rerank": {"model": "m", "secretRef": {"name": "s"}}}},
            "spec.embedding.rerank: secretRef and caSecretRef go with baseURL; without it the Provider's own are used",
        ),
        ({"embedding": {"rerank": {"form": "TEI", "baseURL": TEI, "timeout": "11s"}}}, "rerank.timeout: a query waits"),
        ({"embedding": {"rerank": {"form": "TEI", "baseURL": TEI, "top": 101}}}, "spec.embedding.rerank.top: "),
        ({"embedding": {"rerank": {"form": "TEI", "baseURL": TEI, "top": 0}}}, "spec.embedding.rerank.top: "),
        ({"embedding": {"rerank": {"form": "TEI", "baseURL": TEI, "when": "Never"}}}, "rerank.when: is none of Always"),
    ],
)
def test_what_does_not_fit_is_a_problem_that_names_the_field(change: dict[str, Any], text: str) -> None:
    assert text in problem({**SEED, **change})


@pytest.mark.parametrize("spec", [None, [], "text", {"type": {}}, {"role": 5}, {}])
def test_garbage_is_a_problem_and_raises_nothing(spec: Any) -> None:
    assert problem(spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "claude", "model": "m", "baseURL": "https://gateway/v1?api-version=1"},
        {"type": "openai", "model": "m", "role": "tts", "unheard": 1},
        {"type": "tomorrow", "model": "m", "role": "llm"},
        {"type": "claude"},
    ],
)
def test_what_is_not_ours_to_judge_is_read_as_far_as_its_role_and_is_no_problem(spec: dict[str, Any]) -> None:
    found = provider(spec, {"memory-operator/unheard": "x"})
    assert found.problems == ()
    assert found.spec is not None
    assert (found.spec.role, found.spec.type) == (spec.get("role", "llm"), spec["type"])


@pytest.mark.parametrize("text", ["0s", "24h", "8760h", "1h30m"])
def test_a_way_back_is_kept_for_up_to_a_year_or_not_at_all(text: str) -> None:
    assert provider({**SEED, "embedding": {"keepFor": text}}).problems == ()
    seconds = {"0s": 0, "24h": 86_400, "8760h": 31_536_000, "1h30m": 5_400}
    assert duration_seconds(text, least=0) == seconds[text]


def test_what_a_manifest_leaves_null_is_left_out() -> None:
    assert provider({**SEED, "baseURL": None, "credential": None}).spec == provider(SEED).spec


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://user:secret@host/v1", "no user or password"),
        ("http://user@host", "no user or password"),
        ("http://host/v1?key=secret", "no query"),
        ("http://host/v1#part", "no fragment"),
        ("ftp://host", "starts with http"),
        ("host:80", "starts with http"),
        ("http://", "names a host"),
        ("http:/host", "starts with http"),
        ("http://ho st/", "starts with http"),
        ("http://host/a b", "starts with http"),
        ("http://host\n", "starts with http"),
        ("http://good\\.example/", "starts with http"),
        ("http://host:80x/", "starts with http"),
        ("http://host:99999/", "starts with http"),
        ("http://[::1/", "starts with http"),
    ],
)
def test_a_base_url_that_is_refused_says_why(url: str, text: str) -> None:
    found = problem({**SEED, "baseURL": url})
    assert found.startswith("spec.baseURL: ")
    assert text in found
    assert "secret" not in found


@pytest.mark.parametrize(
    "url", ["http://host", "HTTPS://host:8443/v1/", "http://[::1]:11434/v1", "https://a.b-c.svc/@team/v1"]
)
def test_a_base_url_in_good_form_is_taken(url: str) -> None:
    assert provider({**SEED, "baseURL": url}).problems == ()


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30.0), ("1m30s", 90.0), ("500ms", 0.5), ("1h", 3600.0)])
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "0s", "-1s", "1 s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration_seconds(text)


def test_annotations_stand_in_where_the_spec_is_silent() -> None:
    annotations = {"memory-operator/dimensionChange": "Shadow", "memory-operator/limits": '{"concurrency": 3}'}
    spec = provider(SEED, annotations).spec
    assert spec is not None
    assert spec.embedding is not None
    assert spec.embedding.dimension_change == "Shadow"
    assert spec.embedding.limits is not None
    assert spec.embedding.limits.concurrency == 3


def test_an_annotation_with_a_typo_is_a_problem_and_the_figures_are_none() -> None:
    found = provider(SEED, {"memory-operator/dimensionChang": "Shadow", "memory-operator/embedding-status": "{}"})
    assert found.problems == (
        "metadata.annotations[memory-operator/dimensionChang]: unknown field; did you mean dimensionChange?",
    )


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "{", "\ud800"])
def test_an_annotation_that_is_no_json_is_a_problem_of_its_field(text: str) -> None:
    found = provider(SEED, {"memory-operator/limits": text})
    assert found.problems == ("spec.embedding.limits: has to be a map",)


@pytest.mark.parametrize(
    ("change", "rerank"),
    [
        ({"type": "cohere"}, {"model": "rerank-v3.5"}),
        ({"type": "voyageai"}, {"model": "rerank-2.5", "top": 100, "timeout": "10s", "when": "OnRequest"}),
        ({"type": "huggingface", "baseURL": "http://tei.svc/v1"}, {}),
        ({"type": "vllm", "baseURL": "http://vllm.svc/v1"}, {"form": "Cohere", "model": "m"}),
        ({}, {"form": "TEI", "baseURL": TEI, "secretRef": {"name": "s"}, "caSecretRef": {"name": "ca"}}),
        ({}, {"form": "Jina", "baseURL": "https://api.jina.ai", "model": "m", "inputCostPer1K": "0.00002"}),
    ],
)
def test_a_rerank_api_is_the_providers_own_or_another_one(change: dict[str, Any], rerank: dict[str, Any]) -> None:
    assert provider({**SEED, **change, "embedding": {"rerank": rerank}}).problems == ()


def test_on_another_crd_a_rerank_api_is_an_annotation_in_json() -> None:
    found = provider(SEED, {"memory-operator/rerank": '{"form": "TEI", "baseURL": "http://tei.models.svc"}'})
    assert found.spec is not None
    assert found.spec.embedding is not None
    assert found.spec.embedding.rerank is not None
    assert found.spec.embedding.rerank.base_url == TEI
