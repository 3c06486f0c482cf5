"""Our CRD on a real API server: it is accepted, it refuses what it should, and it says why."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import ControlPlane
from memory_operator.contract.crd import render_crd
from memory_operator.contract.resource import parse_provider

CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/providers.omnia.altairalabs.ai"
SEED = """\
apiVersion: omnia.altairalabs.ai/v1alpha1
kind: Provider
metadata:
  name: memory-embeddings
spec:
  role: embedding
  type: ollama
  model: nomic-embed-text
  embedding:
    dimensions: 768
"""
OLLAMA: dict[str, Any] = {"role": "embedding", "type": "ollama", "model": "nomic-embed-text"}
TEI: dict[str, Any] = {"form": "TEI", "baseURL": "http://tei.svc"}


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self._control_plane = control_plane
        self.namespace = namespace

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._control_plane.kubectl("-n", self.namespace, *words, input=stdin, check=check)

    def dry_run(self, spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """What the API server says of a Provider, without keeping it."""
        manifest = {
            "apiVersion": "omnia.altairalabs.ai/v1alpha1",
            "kind": "Provider",
            "metadata": {"name": "tried"},
            "spec": spec,
        }
        return self("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest), check=False)


@pytest.fixture
def kubectl(control_plane: ControlPlane, provider_crd: None, namespace: str) -> Kubectl:
    return Kubectl(control_plane, namespace)


def test_the_crd_is_structural_and_kubectl_apply_prints_no_warning(
    control_plane: ControlPlane, provider_crd: None, tmp_path: Path
) -> None:
    file = tmp_path / "crd.yaml"
    file.write_text(render_crd())
    done = control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))
    assert "Warning" not in done.stderr
    conditions = control_plane.request("GET", CRD_PATH).body["status"]["conditions"]
    states = {condition["type"]: condition["status"] for condition in conditions}
    assert states["Established"] == "True"
    assert states.get("NonStructuralSchema", "False") == "False"


def test_the_first_manifest_of_the_documentation_applies_unchanged(kubectl: Kubectl) -> None:
    done = kubectl("apply", "-f", "-", stdin=SEED)
    assert done.stdout.endswith("created\n")
    stored = json.loads(kubectl("get", "prov", "memory-embeddings", "-o", "json").stdout)
    assert stored["spec"] == {**OLLAMA, "embedding": {"dimensions": 768}}
    assert parse_provider(stored).problems == ()


@pytest.mark.parametrize(
    ("change", "path"), [({"modle": "x"}, "spec.modle"), ({"embedding": {"dimension": 5}}, "spec.embedding.dimension")]
)
def test_a_typo_in_a_field_is_refused_by_its_name(kubectl: Kubectl, change: dict[str, Any], path: str) -> None:
    done = kubectl.dry_run({**OLLAMA, **change})
    assert done.returncode != 0
    assert f'unknown field "{path}"' in done.stderr


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "spec.model: Required value: model is required unless type is mock or local"),
    ({"role": "llm", "embedding": {}}, "spec.embedding: Forbidden: embedding may only be given with role embedding"),
    ({"platform": {"type": "azure"}}, "platform and auth are given together or not at all"),
    ({"auth": {"type": "accessKey"}}, "platform and auth are given together or not at all"),
    ({"type": "openai_compatible"}, "spec.baseURL: Required value: baseURL is required for type openai_compatible"),
    ({"credential": {"envVar": "A", "filePath": "/b"}}, "at most one of secretRef, envVar and filePath may be given"),
    ({"credential": {"envVar": "A", "secretRef": {"name": "b"}}}, "at most one of secretRef, envVar and filePath"),
    ({"baseURL": "http://user:password@host/"}, "a base URL holds no user or password; use spec.credential"),
    ({"baseURL": "http://host/v1?key=x"}, "a base URL has no query and no fragment"),
    ({"baseURL": "http://host/v1#x"}, "a base URL has no query and no fragment"),
    ({"baseURL": "ftp://host"}, "a base URL starts with http:// or https:// and names a host"),
    ({"baseURL": "http://ho st"}, "a base URL starts with http:// or https:// and names a host"),
    ({"baseURL": "http://host:8o/"}, "a base URL starts with http:// or https:// and names a host"),
    ({"platform": {"type": "azure", "endpoint": "x"}, "auth": {"type": "accessKey"}}, "spec.platform.endpoint"),
    ({"defaults": {"requestTimeout": "0s"}}, "a duration must be longer than nothing"),
    ({"embedding": {"keepFor": "8761h"}}, "at most 8760h, a year"),
    ({"embedding": {"keepFor": "1d"}}, "spec.embedding.keepFor"),
    ({"embedding": {"dimensions": 0}}, "spec.embedding.dimensions"),
    ({"embedding": {"dimensions": 4097}}, "spec.embedding.dimensions"),
    ({"embedding": {"columnType": "bit"}}, 'supported values: "vector", "halfvec"'),
    ({"embedding": {"index": "ivfflat"}}, 'supported values: "auto", "hnsw", "hnsw-halfvec", "hnsw-binary", "none"'),
    ({"embedding": {"hnsw": {"m": 1}}}, "spec.embedding.hnsw.m"),
    ({"embedding": {"hnsw": {"efConstruction": 31}}}, "efConstruction is at least twice m, which is 16 when left out"),
    ({"embedding": {"rerank": {"model": "m"}}}, "embedding.rerank.baseURL is required unless type is cohere, voyageai"),
    ({"type": "cohere", "embedding": {"rerank": {}}}, "embedding.rerank.model is required unless its form is TEI"),
    ({"embedding": {"rerank": {"model": "m", "baseURL": "http://a"}}}, "form is required with baseURL"),
    ({"type": "cohere", "embedding": {"rerank": {"model": "m", "secretRef": {"name": "s"}}}}, "go with baseURL"),
    ({"embedding": {"rerank": {**TEI, "timeout": "10.5s"}}}, "a query waits for re-ranking 10s at most"),
    ({"embedding": {"rerank": {**TEI, "top": 101}}}, "spec.embedding.rerank.top"),
    ({"embedding": {"rerank": {**TEI, "baseURL": "http://user:key@host"}}}, "a base URL holds no user or password"),
    ({"embedding": {"rerank": {"form": "Other", "baseURL": "http://a"}}}, 'supported values: "Cohere", "Voyage"'),
    ({"type": "acme"}, "spec.type: Unsupported value"),
    ({"headers": {"X": 5}}, "spec.headers.X"),
]


@pytest.mark.parametrize(("change", "text"), REFUSED)
def test_each_rule_refuses_with_a_message_that_says_what_is_wrong(
    kubectl: Kubectl, change: dict[str, Any], text: str
) -> None:
    spec = {key: value for key, value in {**OLLAMA, **change}.items() if value is not None}
    done = kubectl.dry_run(spec)
    assert done.returncode != 0
    assert text in done.stderr
    assert parse_provider({"spec": spec}).problems, "the operator must refuse what the API server refuses"


TAKEN: list[dict[str, Any]] = [
    {"type": "local", "role": "embedding"},
    {"type": "mock", "role": "embedding", "embedding": {"dimensions": 4096}},
    {"type": "claude", "model": "m", "role": "llm", "defaults": {"temperature": ".7", "maxTokens": 5}},
    {"type": "gemini", "model": "m", "role": "llm", "baseURL": "https://gateway.svc/v1?api-version=1"},
    {"type": "elevenlabs", "model": "m", "role": "tts", "tts": {"voice": {"id": [1, {"any": "thing"}]}}},
    {"type": "openai", "model": "m", "role": "stt", "stt": {"language": "en"}, "capabilities": ["a", "b"]},
    {
        **OLLAMA,
        "baseURL": "HTTPS://host.svc:8443/v1/",
        "headers": {"X-Team": "a", "X-Empty": ""},
        "credential": {"secretRef": {"name": "s", "key": "k"}},
        "platform": {"type": "azure", "endpoint": "https://a.example"},
        "auth": {"type": "workloadIdentity"},
        "defaults": {"requestTimeout": "1m30s", "topP": "0.1"},
        "pricing": {"inputCostPer1K": "0.00002"},
        "validateCredentials": False,
        "embedding": {
            "dimensions": 768,
            "distance": "dot",
            "columnType": "halfvec",
            "index": "hnsw-binary",
            "hnsw": {"m": 24, "efConstruction": 128},
            "dimensionChange": "Shadow",
            "activation": "Manual",
            "keepFor": "0s",
            "createEnabled": False,
            "batchSize": 64,
            "limits": {"requestsPerMinute": 60, "tokensPerMinute": 1_000_000, "concurrency": 4},
            "budget": {"tokensPerDay": 5_000_000_000, "costPerJob": "12.5"},
            "queryPrefix": "search_query: ",
            "documentPrefix": "search_document: ",
            "caSecretRef": {"name": "ca"},
            "rerank": {**TEI, "secretRef": {"name": "s"}, "top": 100, "timeout": "10s", "when": "OnRequest"},
        },
    },
    {"type": "cohere", "model": "m", "role": "embedding", "embedding": {"rerank": {"model": "rerank-v3.5"}}},
    {"type": "huggingface", "model": "m", "role": "embedding", "embedding": {"rerank": {"inputCostPer1K": "0.1"}}},
]


@pytest.mark.parametrize("spec", TAKEN, ids=lambda spec: f"{spec['type']}-{spec['role']}")
def test_what_the_api_server_takes_the_operator_takes_too(kubectl: Kubectl, spec: dict[str, Any]) -> None:
    done = kubectl.dry_run(spec)
    assert done.returncode == 0, done.stderr
    assert parse_provider({"spec": spec}).problems == ()


def test_a_condition_of_each_type_is_set_by_merge_patch_and_kubectl_get_shows_the_figures(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=SEED)
    for settled in ("False", "True"):
        conditions = [
            {"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
            for kind, status in (("Ready", "True"), ("DimensionSettled", settled))
        ]
        figures = {"appliedDimensions": 768, "active": True, "coverage": 0.9834, "etaSeconds": None}
        patch = json.dumps({"status": {"phase": "Ready", "conditions": conditions, "embedding": figures}})
        kubectl("patch", "prov", "memory-embeddings", "--subresource=status", "--type=merge", "-p", patch)
    stored = json.loads(kubectl("get", "provider", "memory-embeddings", "-o", "json").stdout)
    assert [(each["type"], each["status"]) for each in stored["status"]["conditions"]] == [
        ("Ready", "True"),
        ("DimensionSettled", "True"),
    ]
    assert stored["status"]["embedding"] == {"appliedDimensions": 768, "active": True, "coverage": 0.9834}
    header, row = kubectl("get", "providers").stdout.splitlines()
    assert header.split() == ["NAME", "TYPE", "MODEL", "DIMENSION", "ACTIVE", "COVERAGE", "PHASE", "AGE"]
    assert row.split()[:-1] == ["memory-embeddings", "ollama", "nomic-embed-text", "768", "true", "0.9834", "Ready"]


def test_kubectl_explain_describes_the_fields(kubectl: Kubectl) -> None:
    text = " ".join(kubectl("explain", "provider.spec.embedding.dimensionChange").stdout.split())
    assert "InPlace discards the old vectors, with consent; Shadow fills another space beside them." in text
