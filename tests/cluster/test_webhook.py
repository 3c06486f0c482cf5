"""kubectl apply, a real API server and a real memory-webhook process between them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import ControlPlane
from fixtures.certificates import self_signed
from fixtures.kube import FOREIGN_CRD
from fixtures.waiting import WAIT_SECONDS, eventually
from fixtures.webhook import WebhookProcess, registration, write_pair
from memory_operator.contract.resource import parse_provider

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
Apply = Callable[..., str]


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[WebhookProcess]:
    write_pair(tmp_path, self_signed())
    with WebhookProcess(tmp_path) as process:
        yield process


@pytest.fixture
def apply(control_plane: ControlPlane, provider_crd: None, namespace: str, webhook: WebhookProcess) -> Iterator[Apply]:
    """`kubectl apply` of a Provider with a dimension: what it says on stderr."""

    def run(dimensions: int, *flags: str) -> str:
        manifest = json.dumps(_provider(namespace, dimensions))
        done = control_plane.kubectl("apply", *flags, "-f", "-", input=manifest)
        return done.stderr

    created = control_plane.request("POST", CONFIGURATIONS, registration(namespace, webhook))
    assert created.ok, created.body
    try:
        # It takes a moment from the configuration to its effect.
        eventually(
            lambda: "3072 is above 2000" in run(3072, "--dry-run=server"),
            "the webhook's warning comes with an apply",
        )
        yield run
    finally:
        control_plane.request("DELETE", f"{CONFIGURATIONS}/{namespace}")


def _provider(namespace: str, dimensions: int) -> dict[str, Any]:
    return {
        "apiVersion": "omnia.altairalabs.ai/v1alpha1",
        "kind": "Provider",
        "metadata": {"name": "memory-embeddings", "namespace": namespace},
        "spec": {
            "role": "embedding",
            "type": "openai",
            "model": "text-embedding-3-small",
            "credential": {"secretRef": {"name": "openai"}},
            "embedding": {"dimensions": dimensions},
        },
    }


def test_apply_of_another_dimension_prints_what_is_discarded(
    control_plane: ControlPlane, namespace: str, apply: Apply
) -> None:
    assert apply(1536) == ""
    figures = {"appliedDimensions": 1536, "vectors": 120431, "chunks": 120431, "observedGeneration": 1}
    patch = json.dumps({"status": {"phase": "Ready", "observedGeneration": 1, "embedding": figures}})
    words = ("patch", "prov", "memory-embeddings", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    control_plane.kubectl(*words)
    said = apply(768)
    path = "Warning: spec.embedding.dimensions"
    assert f"{path}: 1536 to 768 discards 120431 vectors; held until one-shot consent names 768\n" in said
    assert f'{path}: to consent, POST /admin/embedding-dimension-change {{"target_dim":768}}\n' in said
    said = apply(512)
    assert "768 to 512 discards all stored vectors" in said, "the status is of an older generation by now"


def test_on_the_groups_own_crd_nothing_is_advised_that_it_prunes(
    control_plane: ControlPlane, namespace: str, apply: Apply
) -> None:
    control_plane.install_crd(FOREIGN_CRD.read_text())
    apply(1536)
    figures = {"phase": "Ready", "appliedDimensions": 1536, "vectors": 9, "chunks": 9, "observedGeneration": 1}
    note = f"memory-operator/embedding-status={json.dumps(figures)}"
    control_plane.kubectl("annotate", "prov", "memory-embeddings", "-n", namespace, note)
    said = apply(768)
    assert "1536 to 768 discards 9 vectors" in said
    assert "spec.embedding.dimensionChange" not in said
    advised = re.findall(r"Warning: metadata\.annotations\[(\S+)\]: Shadow", said)
    assert advised == ["memory-operator/dimensionChange"]
    control_plane.kubectl("annotate", "prov", "memory-embeddings", "-n", namespace, f"{advised[0]}=Shadow")
    kept = json.loads(control_plane.kubectl("get", "prov", "memory-embeddings", "-n", namespace, "-o", "json").stdout)
    read = parse_provider(kept)
    assert read.spec is not None
    assert read.spec.embedding is not None
    assert read.spec.embedding.dimension_change == "Shadow"


def test_apply_works_while_the_webhook_is_gone(
    control_plane: ControlPlane, apply: Apply, webhook: WebhookProcess
) -> None:
    apply(1536)
    before = waited_in_vain(control_plane)
    webhook.process.terminate()
    assert webhook.process.wait(WAIT_SECONDS) == 0
    assert apply(768) == ""
    assert waited_in_vain(control_plane) == before


def test_apply_works_with_a_certificate_that_the_api_server_does_not_trust(
    control_plane: ControlPlane, apply: Apply, webhook: WebhookProcess
) -> None:
    apply(1536)
    before = waited_in_vain(control_plane)
    write_pair(webhook.folder, self_signed("another CA"))
    webhook.wait_for_log("serving a new TLS pair")
    apply(768)  # a connection from before may still be open, and answer with warnings
    assert waited_in_vain(control_plane) == before


def waited_in_vain(control_plane: ControlPlane) -> int:
    """How many calls of webhooks took the API server their whole timeoutSeconds of 3, by its own figures."""
    text = str(control_plane.request("GET", "/metrics").body["text"])
    name = "apiserver_admission_webhook_admission_duration_seconds"
    slow = 0.0
    for line in text.splitlines():
        if line.startswith(f"{name}_count"):
            slow += float(line.rsplit(" ", 1)[1])
        elif line.startswith(f"{name}_bucket") and 'le="2.5"' in line:
            slow -= float(line.rsplit(" ", 1)[1])
    return round(slow)
