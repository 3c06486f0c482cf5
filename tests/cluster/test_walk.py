"""The whole way on a real API server: kubectl, the webhook, the operator, the API, each with its own rights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cluster.harness import ControlPlane
from fixtures.certificates import self_signed
from fixtures.dev import free_port
from fixtures.kube import Namespace
from fixtures.plain_http import NO_AUTHORITIES
from fixtures.processes import Processes, Running
from fixtures.waiting import eventually
from fixtures.webhook import WebhookProcess, registration, write_pair
from vendor.stub import StubVendor

NAME = "memory-embeddings"
CONSENT = "/admin/embedding-dimension-change"
MANIFEST = """
apiVersion: omnia.altairalabs.ai/v1alpha1
kind: Provider
metadata:
  name: memory-embeddings
  namespace: SERVED
spec:
  role: embedding
  type: ollama
  model: nomic-embed-text
  baseURL: VENDOR
  embedding:
    dimensions: 768
"""
CALLERS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: may-consent, namespace: SERVED}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: may-not, namespace: SERVED}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: may-consent, namespace: SERVED}
rules:
  - {apiGroups: [omnia.altairalabs.ai], resources: [providers/consent], verbs: [create]}
  - {apiGroups: [omnia.altairalabs.ai], resources: [providers], verbs: [get]}
  - {apiGroups: [omnia.altairalabs.ai], resources: [memories], verbs: [create, get, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: may-consent, namespace: SERVED}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: may-consent}
subjects: [{kind: ServiceAccount, name: may-consent, namespace: SERVED}]
"""


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=768) as stub:
        yield stub


class Walk:
    """The processes of one walk, and what a person asks them."""

    def __init__(self, processes: Processes, served: Namespace, vendor: StubVendor) -> None:
        self.processes, self.served, self.vendor = processes, served, vendor
        self.operator_words = ("run", "--kubeconfig", str(served.kubeconfig_of("memory-operator")), "--namespaces")
        served.apply(CALLERS)
        self.port = free_port()
        self.operator = self.start_operator()
        api_config = str(served.kubeconfig_of("memory-api"))
        self.api = processes.start("api", "--kubeconfig", api_config, "--host", "127.0.0.1", "--port", str(self.port))
        self.api.until("/readyz", 200)

    def start_operator(self, *words: str) -> Running:
        return self.processes.start(*self.operator_words, self.served.name, *words)

    def apply(self) -> None:
        self.served.apply(MANIFEST.replace("VENDOR", self.vendor.root_url))

    def edit(self, dimensions: int) -> str:
        """`kubectl patch`; what it says on the terminal."""
        patch = json.dumps({"spec": {"embedding": {"dimensions": dimensions}}})
        done = self.served.control_plane.kubectl(
            "-n", self.served.name, "patch", "provider", NAME, "--type=merge", "-p", patch
        )
        return done.stderr

    def provider(self) -> dict[str, Any]:
        return self.served.get("provider", NAME)

    def condition(self, kind: str, reason: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            conditions = self.provider().get("status", {}).get("conditions", [])
            return next((c for c in conditions if (c["type"], c["reason"]) == (kind, reason)), None)

        found: dict[str, Any] = eventually(there, f"{kind} with {reason}")
        return found

    def call(self, method: str, path: str, account: str | None = "may-consent", **arguments: Any) -> httpx.Response:
        headers = {} if account is None else {"Authorization": f"Bearer {self.served.token_of(account)}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, headers=headers, timeout=20, verify=NO_AUTHORITIES, **arguments)

    def add(self, count: int) -> None:
        for number in range(count):
            answer = self.call("POST", "/memory/add", json={"text": f"memory number {number}"})
            assert answer.status_code == 201, answer.text

    def applied(self, dimensions: int) -> None:
        self.condition("DimensionSettled", "Settled")

        def there() -> bool:
            spaces = self.call("GET", "/v1/embeddings/spaces").json()["spaces"]
            return any(s["dimensions"] == dimensions and s["active"] and s["state"] == "ready" for s in spaces)

        eventually(there, f"an active, ready space of {dimensions} dimensions")


@pytest.fixture
def walk(processes: Processes, served: Namespace, vendor: StubVendor) -> Walk:
    return Walk(processes, served, vendor)


def test_from_kubectl_apply_through_consent_by_token_to_delete(
    walk: Walk, control_plane: ControlPlane, tmp_path: Any
) -> None:
    walk.apply()
    eventually(lambda: walk.provider().get("status", {}).get("phase") == "Ready", "phase Ready")
    walk.add(5)
    listing = walk.served.kubectl("get", "providers")
    assert listing.splitlines()[1].split()[:5] == [NAME, "ollama", "nomic-embed-text", "768", "true"]

    folder = tmp_path / "webhook"
    folder.mkdir()
    write_pair(folder, self_signed())
    with WebhookProcess(folder) as webhook:
        control_plane.kubectl("apply", "-f", "-", input=json.dumps(registration(walk.served.name, webhook)))
        try:
            said = eventually(lambda: _warned(walk, 512), "a warning of the webhook on the terminal")
        finally:
            control_plane.kubectl("delete", "validatingwebhookconfiguration", walk.served.name)
    assert "Warning: spec.embedding.dimensions" in said

    held = walk.condition("DimensionSettled", "ConsentRequired")
    assert held["status"] == "False"
    assert held["message"].startswith(
        "memory: changing the embedding dimension to 512 would discard existing embeddings and requires one-shot"
        " consent (from=768 vectors=5 marker=none); record it via POST /admin/embedding-dimension-change"
    )
    assert walk.operator.until("/readyz", 503).strip() == held["message"]
    assert walk.operator.probe("/livez") == (200, "ok\n")
    events = walk.served.items("events")
    assert [e["type"] for e in events if e["reason"] == "ConsentRequired"] == ["Warning"]
    found = walk.call("POST", "/memory/query", json={"query": "memory number 3"}).json()
    assert found["diagnostics"]["semantic_status"] == "ok"

    assert walk.call("POST", CONSENT, None, json={"target_dim": 512}).status_code == 401
    assert walk.call("POST", CONSENT, "may-not", json={"target_dim": 512}).status_code == 403
    walk.edit(768)  # a revert settles it
    walk.condition("DimensionSettled", "Settled")
    walk.edit(512)
    walk.condition("DimensionSettled", "ConsentRequired")
    recorded = walk.call("POST", CONSENT, content=b'{"target_dim":512}')
    assert recorded.status_code == 200, recorded.text
    assert recorded.json()["matches_held_change"] is True
    walk.applied(512)

    provider = walk.provider()
    assert "finalizers" not in provider["metadata"]
    assert walk.operator.stop() == 0
    walk.served.kubectl("delete", "provider", NAME)


def _warned(walk: Walk, dimensions: int) -> str | None:
    said = walk.edit(dimensions)
    if "Warning" in said:
        return said
    walk.edit(768)  # the API server had not read the configuration yet
    return None


def test_an_api_server_that_restarts_and_a_second_operator_change_nothing(walk: Walk) -> None:
    walk.apply()
    eventually(lambda: walk.provider().get("status", {}).get("phase") == "Ready", "phase Ready")
    walk.add(5)
    second = walk.start_operator()
    second.until("/readyz", 200)
    walk.served.control_plane.restart()
    walk.edit(256)
    walk.condition("DimensionSettled", "ConsentRequired")
    eventually(
        lambda: walk.call("POST", CONSENT, json={"target_dim": 256}).status_code == 200, "consent after the restart"
    )
    walk.applied(256)
    reshapes = walk.call("GET", "/v1/embeddings/spaces").json()["spaces"]
    assert [space["dimensions"] for space in reshapes] == [256]
    for operator in (walk.operator, second):
        assert operator.stop() == 0
        assert not re.search(r"(reconcile of \S+|listing|refresh) failed$", operator.text(), re.MULTILINE)


def test_exit_mode_ends_with_the_message_and_check_says_held(walk: Walk) -> None:
    walk.apply()
    eventually(lambda: walk.provider().get("status", {}).get("phase") == "Ready", "phase Ready")
    walk.add(2)
    config = str(walk.served.kubeconfig_of("memory-operator"))
    check = ("check", "--kubeconfig", config, "--namespaces", walk.served.name)
    assert walk.processes.run(*check).returncode == 0
    assert walk.operator.stop() == 0
    running = walk.start_operator("--on-unconsented-change", "Exit")
    running.until("/readyz", 200)
    walk.edit(128)
    assert running.ends_by_itself() == 1
    assert "memory: changing the embedding dimension to 128 would discard" in running.text()
    again = walk.start_operator("--on-unconsented-change", "Exit")
    assert again.ends_by_itself() == 1
    found = walk.processes.run(*check)
    assert found.returncode == 7
    assert "requires one-shot consent (from=768 vectors=2 marker=none)" in found.stdout


def test_probes_answer_from_the_first_second_while_the_database_is_away(
    processes: Processes, served: Namespace
) -> None:
    processes.environment["MEMORY_DATABASE_URL"] = f"postgresql://x:y@127.0.0.1:{free_port()}/none"
    config = str(served.kubeconfig_of("memory-operator"))
    running = processes.start("run", "--kubeconfig", config, "--namespaces", served.name)
    assert running.until("/livez", 200) == "ok\n"
    assert "waiting for the database" in running.until("/readyz", 503)
    assert "memory_reconciles_total" in running.until("/metrics", 200)
    assert running.stop() == 0


def test_the_groups_own_crd_is_served_by_conditions_and_an_annotation(
    processes: Processes, foreign: Namespace, vendor: StubVendor
) -> None:
    walk = Walk(processes, foreign, vendor)
    walk.apply()
    figures = "memory-operator/embedding-status"

    def told() -> dict[str, Any] | None:
        text = walk.provider()["metadata"].get("annotations", {}).get(figures)
        return json.loads(text) if text else None

    eventually(lambda: (told() or {}).get("appliedDimensions") == 768, "the figures in the annotation")
    walk.add(3)
    walk.edit(512)
    held = walk.condition("DimensionSettled", "ConsentRequired")
    assert "(from=768 vectors=3 marker=none)" in held["message"]
    status = walk.provider()["status"]
    assert "phase" not in status
    assert "embedding" not in status
    assert walk.call("POST", CONSENT, "may-not", json={"target_dim": 512}).status_code == 403
    assert walk.call("POST", CONSENT, json={"target_dim": 512}).status_code == 200
    walk.applied(512)
    eventually(lambda: (told() or {}).get("appliedDimensions") == 512, "the new figures in the annotation")
    walk.edit(256)
    walk.condition("DimensionSettled", "ConsentRequired")
    walk.edit(512)
    walk.condition("DimensionSettled", "Settled")
    assert walk.operator.stop() == 0
    walk.served.kubectl("delete", "provider", NAME)
