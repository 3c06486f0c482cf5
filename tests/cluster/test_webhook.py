"""kubectl apply, a real API server and a real memory-webhook process between them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import ControlPlane
from fixtures.certificates import self_signed
from fixtures.waiting import eventually
from fixtures.webhook import WebhookProcess, registration, write_pair

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
AT_ONCE_SECONDS = 2.0
"""Well below the webhook's timeoutSeconds of 3, kubectl's own start included."""
Apply = Callable[..., tuple[str, float]]


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[WebhookProcess]:
    write_pair(tmp_path, self_signed())
    with WebhookProcess(tmp_path) as process:
        yield process


@pytest.fixture
def apply(control_plane: ControlPlane, provider_crd: None, namespace: str, webhook: WebhookProcess) -> Iterator[Apply]:
    """`kubectl apply` of a Provider with a dimension: what it says on stderr, and the seconds that it takes."""

    def run(dimensions: int, *flags: str) -> tuple[str, float]:
        started = time.monotonic()
        manifest = json.dumps(_provider(namespace, dimensions))
        done = control_plane.kubectl("apply", *flags, "-f", "-", input=manifest)
        return done.stderr, time.monotonic() - started

    created = control_plane.request("POST", CONFIGURATIONS, registration(namespace, webhook))
    assert created.ok, created.body
    try:
        # It takes a moment from the configuration to its effect.
        eventually(
            lambda: "3072 is above 2000" in run(3072, "--dry-run=server")[0],
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
    assert apply(1536)[0] == ""
    figures = {"appliedDimensions": 1536, "vectors": 120431, "chunks": 120431, "observedGeneration": 1}
    patch = json.dumps({"status": {"phase": "Ready", "observedGeneration": 1, "embedding": figures}})
    words = ("patch", "prov", "memory-embeddings", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    control_plane.kubectl(*words)
    said, _ = apply(768)
    path = "Warning: spec.embedding.dimensions"
    assert f"{path}: 1536 to 768 discards 120431 vectors; held until one-shot consent names 768\n" in said
    assert f'{path}: to consent, POST /admin/embedding-dimension-change {{"target_dim":768}}\n' in said
    said, _ = apply(512)
    assert "768 to 512 discards all stored vectors" in said, "the status is of an older generation by now"


def test_apply_works_at_once_while_the_webhook_is_gone(apply: Apply, webhook: WebhookProcess) -> None:
    apply(1536)
    webhook.process.terminate()
    assert webhook.process.wait(10) == 0
    said, seconds = apply(768)
    assert said == ""
    assert seconds < AT_ONCE_SECONDS


def test_apply_works_at_once_with_a_certificate_that_the_api_server_does_not_trust(
    apply: Apply, webhook: WebhookProcess
) -> None:
    apply(1536)
    write_pair(webhook.folder, self_signed("another CA"))
    webhook.wait_for_log("serving a new TLS pair")
    # A connection from before may still be open, and answer with warnings.
    assert apply(768)[1] < AT_ONCE_SECONDS
