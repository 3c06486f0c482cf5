"""Providers, statuses and Secrets on a real API server, with the least RBAC."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient

from fixtures.kube import Namespace, provider_manifest
from memory_operator.contract.resource import ProviderRef
from memory_operator.contract.status import (
    Condition,
    ConditionType,
    EmbeddingStatus,
    Phase,
    ProviderStatus,
    Reason,
)
from memory_operator.engine.sources import ProviderEvent
from memory_operator.errors import SecretMissing, SourceUnavailable
from memory_operator.kube.client import open_api
from memory_operator.kube.secrets import secret_reader
from memory_operator.kube.source import KubeSource

HELD = ProviderEvent("Warning", "ConsentRequired", "a change waits for consent " + "x" * 2000)


@pytest.fixture
async def operator_api(namespace: Namespace) -> AsyncIterator[ApiClient]:
    async with open_api(namespace.kubeconfig_of("memory-operator")) as api:
        yield api


def ref(namespace: Namespace, name: str = "memory-embeddings") -> ProviderRef:
    return ProviderRef(namespace.name, name)


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


async def publish(source: KubeSource, namespace: Namespace, status: ProviderStatus, *events: ProviderEvent) -> None:
    provider = await source.get(ref(namespace))
    assert provider is not None
    await source.publish(ref(namespace), provider.uid, status, events)


async def test_a_provider_is_read_live_and_one_that_is_not_there_is_none(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    source = KubeSource(operator_api, [namespace.name])
    assert await source.get(ref(namespace)) is None
    namespace.provider()
    provider = await source.get(ref(namespace))
    assert provider is not None
    assert (provider.ref, provider.generation, provider.problems) == (ref(namespace), 1, ())
    assert provider.spec is not None
    assert provider.spec.embedding is not None
    assert provider.spec.embedding.dimensions == 64


async def test_a_list_has_all_pages_of_the_served_namespaces_and_no_others(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    namespace.apply(*(provider_manifest(f"p{i}", namespace.name) for i in range(7)))
    other = namespace.another()
    other.provider("elsewhere")
    source = KubeSource(operator_api, [namespace.name], page=3)
    assert source.serves(namespace.name)
    assert not source.serves(other.name)
    assert sorted(each.ref.name for each in await source.list()) == [f"p{i}" for i in range(7)]


async def test_a_list_of_a_namespace_that_may_not_be_listed_is_no_empty_list(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    source = KubeSource(operator_api, [namespace.name, "default"])
    with pytest.raises(
        SourceUnavailable, match=r"needs list on providers of omnia\.altairalabs\.ai in namespace default"
    ):
        await source.list()


async def test_a_status_is_written_once_and_keeps_what_others_wrote(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    namespace.provider()
    theirs = (
        '{"status":{"conditions":[{"type":"Theirs","status":"True","reason":"X","message":"",'
        '"lastTransitionTime":"2026-01-01T00:00:00Z"}]}}'
    )
    namespace.kubectl("patch", "provider", "memory-embeddings", "--subresource=status", "--type=merge", "-p", theirs)
    source = KubeSource(operator_api, [namespace.name])
    await publish(source, namespace, a_status(eta_seconds=9))
    first = namespace.get("provider", "memory-embeddings")
    assert first["status"]["phase"] == "Held"
    assert first["status"]["embedding"]["etaSeconds"] == 9
    assert [each["type"] for each in first["status"]["conditions"]] == [
        "Theirs",
        "Ready",
        "DimensionSettled",
        "Active",
    ]
    assert first["metadata"].get("finalizers") is None
    await publish(source, namespace, a_status(eta_seconds=9))
    assert namespace.get("provider", "memory-embeddings") == first, "nothing differs, so nothing is written"
    await publish(source, namespace, a_status())
    second = namespace.get("provider", "memory-embeddings")
    assert "etaSeconds" not in second["status"]["embedding"]
    assert second["metadata"]["generation"] == 1


async def test_a_write_in_between_is_not_lost_and_ours_is_written_all_the_same(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    namespace.provider()
    source = KubeSource(operator_api, [namespace.name])
    others = [KubeSource(operator_api, [namespace.name]) for _ in range(3)]
    statuses = [a_status(vectors=number) for number in range(4)]
    async with asyncio.TaskGroup() as group:
        for each, status in zip([source, *others], statuses, strict=True):
            group.create_task(publish(each, namespace, status))
    live = namespace.get("provider", "memory-embeddings")["status"]
    assert live["embedding"]["vectors"] in range(4)
    assert len(live["conditions"]) == 3


async def test_a_provider_that_is_gone_or_another_one_is_left_alone(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    source = KubeSource(operator_api, [namespace.name])
    await source.publish(ref(namespace), "any", a_status(), [HELD])
    namespace.provider()
    await source.publish(ref(namespace), "the-one-before", a_status(), [HELD])
    assert "status" not in namespace.get("provider", "memory-embeddings")
    assert namespace.items("events") == []


async def test_an_event_is_created_once_for_each_call_and_names_the_provider(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    namespace.provider()
    source = KubeSource(operator_api, [namespace.name])
    await publish(source, namespace, a_status(), HELD)
    (event,) = namespace.items("events")
    assert (event["reason"], event["type"], event["count"]) == ("ConsentRequired", "Warning", 1)
    assert event["reportingComponent"] == "memory-operator"
    assert len(event["message"].encode()) <= 1024
    assert "ConsentRequired" in namespace.kubectl("describe", "provider", "memory-embeddings")


async def test_events_that_may_not_be_created_do_not_keep_the_status_from_being_written(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    namespace.provider()
    rule = {"apiGroups": ["omnia.altairalabs.ai"], "resources": ["providers", "providers/status"], "verbs": ["*"]}
    namespace.kubectl("patch", "role", "memory-operator", "--type=merge", "-p", json.dumps({"rules": [rule]}))
    await publish(KubeSource(operator_api, [namespace.name]), namespace, a_status(), HELD)
    assert namespace.get("provider", "memory-embeddings")["status"]["phase"] == "Held"
    assert namespace.items("events") == []


async def test_columns_of_kubectl_show_what_was_published(namespace: Namespace, operator_api: ApiClient) -> None:
    namespace.provider()
    await publish(KubeSource(operator_api, [namespace.name]), namespace, a_status(applied_dimensions=64, active=True))
    header, row = namespace.kubectl("get", "providers").splitlines()
    assert header.split() == ["NAME", "TYPE", "MODEL", "DIMENSION", "ACTIVE", "COVERAGE", "PHASE", "AGE"]
    assert row.split()[:-1] == ["memory-embeddings", "mock", "m", "64", "true", "0.5", "Held"]


async def test_deleting_a_provider_returns_at_once_with_no_operator_running(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    namespace.provider()
    await publish(KubeSource(operator_api, [namespace.name]), namespace, a_status())
    started = time.monotonic()
    namespace.kubectl("delete", "provider", "memory-embeddings", "--timeout=10s")
    assert time.monotonic() - started < 5


async def test_a_secret_is_read_by_name_by_each_process_that_embeds(namespace: Namespace) -> None:
    namespace.kubectl("create", "secret", "generic", "key", "--from-literal=api-key=hush")
    for account in ("memory-operator", "memory-api", "memory-worker"):
        async with open_api(namespace.kubeconfig_of(account)) as api:
            assert await secret_reader(api)(namespace.name, "key") == {"api-key": "hush"}
            with pytest.raises(SecretMissing, match=f"Secret {namespace.name}/none does not exist"):
                await secret_reader(api)(namespace.name, "none")


async def test_a_secret_that_may_not_be_read_says_which_permission_is_missing(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    with pytest.raises(SourceUnavailable, match="its ServiceAccount needs get on secrets in namespace kube-system"):
        await secret_reader(operator_api)("kube-system", "any")


async def test_a_binary_secret_does_not_hide_the_others(namespace: Namespace, operator_api: ApiClient) -> None:
    data = {"binary": base64.b64encode(b"\xff\xfe").decode(), "api-key": base64.b64encode(b"hush").decode()}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mixed"}, "data": data})
    assert await secret_reader(operator_api)(namespace.name, "mixed") == {"api-key": "hush"}


async def test_without_the_crd_a_provider_is_not_absent_but_unknown(
    namespace: Namespace, operator_api: ApiClient
) -> None:
    source = KubeSource(operator_api, [namespace.name])
    namespace.kubectl("delete", "crd", "providers.omnia.altairalabs.ai")
    try:
        with pytest.raises(SourceUnavailable, match="does not know providers"):
            await source.get(ref(namespace))
        with pytest.raises(SourceUnavailable, match="does not know providers"):
            await source.list()
    finally:
        namespace.install_crd("ours")
