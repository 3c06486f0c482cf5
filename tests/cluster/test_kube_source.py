"""Providers, statuses and Secrets on a real API server, with the least RBAC."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient

from fixtures.kube import Namespace, provider_manifest
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.contract.status import (
    Condition,
    ConditionType,
    EmbeddingStatus,
    Phase,
    ProviderStatus,
    Reason,
)
from memory_operator.engine.ports.sources import ProviderEvent
from memory_operator.errors import SecretMissing, SourceUnavailable
from memory_operator.kube.client import open_api
from memory_operator.kube.secrets import secret_reader
from memory_operator.kube.source import KubeSource

HELD = ProviderEvent("Warning", "ConsentRequired", "a change waits for consent " + "x" * 2000)


@pytest.fixture
async def operator_api(served: Namespace) -> AsyncIterator[ApiClient]:
    async with open_api(served.kubeconfig_of("memory-operator")) as api:
        yield api


def ref(served: Namespace, name: str = "memory-embeddings") -> ProviderRef:
    return ProviderRef(served.name, name)


def a_status(vectors: int = 5, generation: int = 1, **embedding: Any) -> ProviderStatus:
    now = datetime.now(UTC)
    conditions = [
        Condition(type=kind, status=status, reason=reason, message="why", last_transition_time=now,
                  observed_generation=generation)
        for kind, status, reason in (
            (ConditionType.READY, "False", Reason.CONSENT_REQUIRED),
            (ConditionType.DIMENSION_SETTLED, "False", Reason.CONSENT_REQUIRED),
            (ConditionType.ACTIVE, "True", Reason.ACTIVE),
        )
    ]  # fmt: skip
    return ProviderStatus(
        phase=Phase.HELD,
        observed_generation=generation,
        conditions=conditions,
        embedding=EmbeddingStatus(vectors=vectors, chunks=10, coverage=0.5, **embedding),
    )


async def publish(source: KubeSource, served: Namespace, status: ProviderStatus, *events: ProviderEvent) -> None:
    provider = await source.get(ref(served))
    assert provider is not None
    await source.publish(ref(served), provider.uid, status, events)


async def test_a_provider_is_read_live_and_one_that_is_not_there_is_none(
    served: Namespace, operator_api: ApiClient
) -> None:
    source = KubeSource(operator_api, [served.name])
    assert await source.get(ref(served)) is None
    served.provider()
    provider = await source.get(ref(served))
    assert provider is not None
    assert (provider.ref, provider.generation, provider.problems) == (ref(served), 1, ())
    assert provider.spec is not None
    assert provider.spec.embedding is not None
    assert provider.spec.embedding.dimensions == 64


async def test_a_list_has_all_pages_of_the_served_namespaces_and_no_others(
    served: Namespace, elsewhere: Namespace, operator_api: ApiClient
) -> None:
    served.apply(*(provider_manifest(f"p{i}", served.name) for i in range(7)))
    elsewhere.provider("another")
    source = KubeSource(operator_api, [served.name], page=3)
    assert source.serves(served.name)
    assert not source.serves(elsewhere.name)
    assert sorted(each.ref.name for each in (await source.list()).whole()) == [f"p{i}" for i in range(7)]


async def test_a_list_of_a_namespace_that_may_not_be_listed_is_no_empty_list(
    served: Namespace, operator_api: ApiClient
) -> None:
    source = KubeSource(operator_api, [served.name, "default"])
    with pytest.raises(
        SourceUnavailable, match=r"needs list on providers of omnia\.altairalabs\.ai in namespace default"
    ):
        (await source.list()).whole()


async def test_a_status_is_written_once_and_keeps_what_others_wrote(served: Namespace, operator_api: ApiClient) -> None:
    served.provider()
    theirs = (
        '{"status":{"conditions":[{"type":"Theirs","status":"True","reason":"X","message":"",'
        '"lastTransitionTime":"2026-01-01T00:00:00Z"}]}}'
    )
    served.kubectl("patch", "provider", "memory-embeddings", "--subresource=status", "--type=merge", "-p", theirs)
    source = KubeSource(operator_api, [served.name])
    await publish(source, served, a_status(eta_seconds=9))
    first = served.get("provider", "memory-embeddings")
    assert first["status"]["phase"] == "Held"
    assert first["status"]["embedding"]["etaSeconds"] == 9
    assert [each["type"] for each in first["status"]["conditions"]] == [
        "Theirs",
        "Ready",
        "DimensionSettled",
        "Active",
    ]
    assert first["metadata"].get("finalizers") is None
    await publish(source, served, a_status(eta_seconds=9))
    assert served.get("provider", "memory-embeddings") == first, "nothing differs, so nothing is written"
    await publish(source, served, a_status())
    second = served.get("provider", "memory-embeddings")
    assert "etaSeconds" not in second["status"]["embedding"]
    assert second["metadata"]["generation"] == 1


async def test_a_write_in_between_is_not_lost_and_ours_is_written_all_the_same(
    served: Namespace, operator_api: ApiClient
) -> None:
    served.provider()
    source = KubeSource(operator_api, [served.name])
    others = [KubeSource(operator_api, [served.name]) for _ in range(3)]
    statuses = [a_status(vectors=number) for number in range(4)]
    async with asyncio.TaskGroup() as group:
        for each, status in zip([source, *others], statuses, strict=True):
            group.create_task(publish(each, served, status))
    live = served.get("provider", "memory-embeddings")["status"]
    assert live["embedding"]["vectors"] in range(4)
    assert len(live["conditions"]) == 3


async def test_a_provider_that_is_gone_or_another_one_is_left_alone(served: Namespace, operator_api: ApiClient) -> None:
    source = KubeSource(operator_api, [served.name])
    await source.publish(ref(served), "any", a_status(), [HELD])
    served.provider()
    await source.publish(ref(served), "the-one-before", a_status(), [HELD])
    assert "status" not in served.get("provider", "memory-embeddings")
    assert served.items("events") == []


async def test_an_event_is_created_once_for_each_call_and_names_the_provider(
    served: Namespace, operator_api: ApiClient
) -> None:
    served.provider()
    source = KubeSource(operator_api, [served.name])
    await publish(source, served, a_status(), HELD)
    (event,) = served.items("events")
    assert (event["reason"], event["type"], event["count"]) == ("ConsentRequired", "Warning", 1)
    assert event["reportingComponent"] == "memory-operator"
    assert len(event["message"].encode()) <= 1024
    assert "ConsentRequired" in served.kubectl("describe", "provider", "memory-embeddings")


async def test_events_that_may_not_be_created_do_not_keep_the_status_from_being_written(
    served: Namespace, operator_api: ApiClient
) -> None:
    served.provider()
    rule = {"apiGroups": ["omnia.altairalabs.ai"], "resources": ["providers", "providers/status"], "verbs": ["*"]}
    served.kubectl("patch", "role", "memory-operator", "--type=merge", "-p", json.dumps({"rules": [rule]}))
    await publish(KubeSource(operator_api, [served.name]), served, a_status(), HELD)
    assert served.get("provider", "memory-embeddings")["status"]["phase"] == "Held"
    assert served.items("events") == []


async def test_columns_of_kubectl_show_what_was_published(served: Namespace, operator_api: ApiClient) -> None:
    served.provider()
    await publish(KubeSource(operator_api, [served.name]), served, a_status(applied_dimensions=64, active=True))
    header, row = served.kubectl("get", "providers").splitlines()
    assert header.split() == ["NAME", "TYPE", "MODEL", "DIMENSION", "ACTIVE", "COVERAGE", "PHASE", "AGE"]
    assert row.split()[:-1] == ["memory-embeddings", "mock", "m", "64", "true", "0.5", "Held"]


async def test_deleting_a_provider_returns_at_once_with_no_operator_running(
    served: Namespace, operator_api: ApiClient
) -> None:
    served.provider()
    await publish(KubeSource(operator_api, [served.name]), served, a_status())
    served.kubectl("delete", "provider", "memory-embeddings", "--timeout=30s")


async def test_a_secret_is_read_by_name_by_each_process_that_embeds(served: Namespace) -> None:
    served.kubectl("create", "secret", "generic", "key", "--from-literal=api-key=hush")
    for account in ("memory-operator", "memory-api", "memory-worker"):
        async with open_api(served.kubeconfig_of(account)) as api:
            assert await secret_reader(api)(served.name, "key") == {"api-key": "hush"}
            with pytest.raises(SecretMissing, match=f"Secret {served.name}/none does not exist"):
                await secret_reader(api)(served.name, "none")


async def test_a_secret_that_may_not_be_read_says_which_permission_is_missing(
    served: Namespace, operator_api: ApiClient
) -> None:
    with pytest.raises(SourceUnavailable, match="its ServiceAccount needs get on secrets in namespace kube-system"):
        await secret_reader(operator_api)("kube-system", "any")


async def test_a_binary_secret_does_not_hide_the_others(served: Namespace, operator_api: ApiClient) -> None:
    data = {"binary": base64.b64encode(b"\xff\xfe").decode(), "api-key": base64.b64encode(b"hush").decode()}
    served.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mixed"}, "data": data})
    assert await secret_reader(operator_api)(served.name, "mixed") == {"api-key": "hush"}


async def test_without_the_crd_a_provider_is_not_absent_but_unknown(served: Namespace, operator_api: ApiClient) -> None:
    source = KubeSource(operator_api, [served.name])
    await asyncio.to_thread(served.remove_crd)
    # The API server goes on serving an empty list for a moment after the object is gone.
    await until(lambda: not _serves_providers(served), "the API server no longer serves Providers")
    with pytest.raises(SourceUnavailable, match="does not know providers"):
        await source.get(ref(served))
    with pytest.raises(SourceUnavailable, match="does not know providers"):
        (await source.list()).whole()


def _serves_providers(served: Namespace) -> bool:
    path = f"/apis/omnia.altairalabs.ai/v1alpha1/namespaces/{served.name}/providers"
    return served.control_plane.kubectl("get", "--raw", path, check=False).returncode == 0
