"""What the doctor sees of a real cluster: the API server's clock, and the webhook with its certificate."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from fixtures.certificates import self_signed
from fixtures.kube import Namespace
from memory_operator.engine.admin.doctor.cluster_checks import cluster
from memory_operator.errors import NotPermitted
from memory_operator.kube.client import open_api
from memory_operator.kube.cluster_view import KubeClusterView

NAME = "doctor-looks-at-this"


def configuration(authority: bytes, resource: str = "providers") -> dict[str, Any]:
    """A webhook for a resource of the group, which never stops a change."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": "providers.memory-operator.example",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "timeoutSeconds": 1,
                "clientConfig": {
                    "service": {"name": "nobody", "namespace": "default", "path": "/"},
                    "caBundle": base64.b64encode(authority).decode(),
                },
                "rules": [
                    {
                        "apiGroups": ["omnia.altairalabs.ai"],
                        "apiVersions": ["*"],
                        "resources": [resource],
                        "operations": ["UPDATE"],
                    }
                ],
            }
        ],
    }


@pytest.fixture
def webhooks(served: Namespace) -> Iterator[Namespace]:
    """A namespace; the configuration that its test makes is gone afterwards."""
    yield served
    served.kubectl("delete", "validatingwebhookconfiguration", NAME, "--ignore-not-found")


async def test_a_webhook_is_seen_with_the_end_of_its_authority(webhooks: Namespace) -> None:
    authority = self_signed().certificate
    webhooks.apply(configuration(authority))
    async with open_api(webhooks.control_plane.admin_kubeconfig) as api:
        [found] = await KubeClusterView(api).registrations()
        assert (found.name, found.fault) == (NAME, "")
        assert found.expires == x509.load_pem_x509_certificate(authority).not_valid_after_utc
        said = {each.check: each for each in await cluster(KubeClusterView(api))}
        assert said["webhook"].result == "warn"  # it ends within a day
        assert "MemoryCertificateExpires" in said["webhook"].remedy
        webhooks.apply(configuration(authority, "others"))
        assert list(await KubeClusterView(api).registrations()) == []
        said = {each.check: each for each in await cluster(KubeClusterView(api))}
        assert said["webhook"].message.startswith("no webhook is registered")


async def test_a_webhook_without_an_authority_is_a_fault(webhooks: Namespace) -> None:
    webhooks.apply(configuration(b""))
    async with open_api(webhooks.control_plane.admin_kubeconfig) as api:
        [found] = await KubeClusterView(api).registrations()
    assert found.fault == "it has no authority to be verified by"


async def test_who_may_not_look_is_told_what_is_missing(served: Namespace) -> None:
    async with open_api(served.kubeconfig_of("memory-api")) as api:
        with pytest.raises(NotPermitted, match="list on validatingwebhookconfigurations"):
            await KubeClusterView(api).registrations()
        said = {each.check: each for each in await cluster(KubeClusterView(api))}
        assert said["webhook"].result == "not_permitted"
        assert said["clocks"].result == "ok"
