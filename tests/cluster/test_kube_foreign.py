"""Beside the group's own CRD: its controller owns phase and its condition types."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.kube import Namespace, provider_manifest
from fixtures.kube_operator import operating
from fixtures.waiting import until
from memory_operator.contract.resource import STATUS_ANNOTATION, ProviderRef
from memory_operator.contract.status import (
    Condition,
    ConditionType,
    EmbeddingStatus,
    Phase,
    ProviderStatus,
    Reason,
)
from memory_operator.engine.ports.sources import ProviderEvent
from memory_operator.kube.client import open_api
from memory_operator.kube.source import KubeSource

THEIRS: dict[str, Any] = {
    "phase": "Ready",
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Theirs",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


def held(vectors: int) -> ProviderStatus:
    now = datetime.now(UTC)
    kinds = (ConditionType.READY, ConditionType.CREDENTIAL_RESOLVED, ConditionType.DIMENSION_SETTLED)
    conditions = [
        Condition(type=kind, status="False", reason=Reason.CONSENT_REQUIRED, last_transition_time=now) for kind in kinds
    ]
    return ProviderStatus(
        phase=Phase.HELD, observed_generation=1, conditions=conditions, embedding=EmbeddingStatus(vectors=vectors)
    )


async def test_phase_and_the_other_controllers_conditions_are_left_alone_and_figures_are_an_annotation(
    foreign: Namespace,
) -> None:
    foreign.provider()
    patch = json.dumps({"status": THEIRS})
    foreign.kubectl("patch", "provider", "memory-embeddings", "--subresource=status", "--type=merge", "-p", patch)
    ref = ProviderRef(foreign.name, "memory-embeddings")
    async with open_api(foreign.kubeconfig_of("memory-operator")) as api:
        source = KubeSource(api, [foreign.name])
        provider = await source.get(ref)
        assert provider is not None
        await source.publish(ref, provider.uid, held(5), [ProviderEvent("Warning", "ConsentRequired", "held")])
        first = foreign.get("provider", "memory-embeddings")
        await source.publish(ref, provider.uid, held(5), [])
        again = foreign.get("provider", "memory-embeddings")
        await source.publish(ref, provider.uid, held(6), [])
        later = foreign.get("provider", "memory-embeddings")
    assert first["status"]["phase"] == "Ready"
    assert first["status"]["observedGeneration"] == 1
    assert first["status"]["conditions"][0] == THEIRS["conditions"][0]
    assert [each["type"] for each in first["status"]["conditions"]] == [
        "Ready",
        "EmbeddingReady",
        "EmbeddingCredentialResolved",
        "DimensionSettled",
    ]
    figures = json.loads(first["metadata"]["annotations"][STATUS_ANNOTATION])
    assert (figures["phase"], figures["vectors"]) == ("Held", 5)
    assert again == first, "nothing differs, so nothing is written"
    assert json.loads(later["metadata"]["annotations"][STATUS_ANNOTATION])["vectors"] == 6
    assert later["metadata"]["generation"] == 1
    assert [each["reason"] for each in foreign.items("events")] == ["ConsentRequired"]


async def test_fields_that_the_crd_does_not_know_are_read_from_annotations(foreign: Namespace) -> None:
    manifest = provider_manifest("memory-embeddings", foreign.name)
    manifest["metadata"]["annotations"] = {
        "memory-operator/dimensionChange": "Shadow",
        "memory-operator/limits": '{"concurrency": 3}',
    }
    foreign.apply(manifest)
    async with open_api(foreign.kubeconfig_of("memory-operator")) as api:
        provider = await KubeSource(api, [foreign.name]).get(ProviderRef(foreign.name, "memory-embeddings"))
    assert provider is not None
    assert provider.problems == ()
    assert provider.spec is not None
    assert provider.spec.embedding is not None
    assert provider.spec.embedding.dimension_change == "Shadow"
    assert provider.spec.embedding.limits is not None
    assert provider.spec.embedding.limits.concurrency == 3


async def test_a_crd_that_is_replaced_by_ours_is_noticed_by_a_new_source(foreign: Namespace) -> None:
    foreign.provider()
    ref = ProviderRef(foreign.name, "memory-embeddings")
    async with open_api(foreign.kubeconfig_of("memory-operator")) as api:
        provider = await KubeSource(api, [foreign.name]).get(ref)
        assert provider is not None
        await KubeSource(api, [foreign.name]).publish(ref, provider.uid, held(5), [])
        foreign.install_crd("ours")
        await KubeSource(api, [foreign.name]).publish(ref, provider.uid, held(5), [])
    assert foreign.get("provider", "memory-embeddings")["status"]["embedding"]["vectors"] == 5


async def test_a_crd_that_is_replaced_by_the_groups_own_is_noticed_after_one_refused_write(
    served: Namespace,
) -> None:
    served.provider()
    served.control_plane.apply_rbac(served.name, foreign=True)
    ref = ProviderRef(served.name, "memory-embeddings")
    async with open_api(served.kubeconfig_of("memory-operator")) as api:
        source = KubeSource(api, [served.name])
        provider = await source.get(ref)
        assert provider is not None
        await source.publish(ref, provider.uid, held(5), [])
        served.install_crd("foreign")
        await source.publish(ref, provider.uid, held(6), [])
        await source.publish(ref, provider.uid, held(7), [])
    live = served.get("provider", "memory-embeddings")
    assert json.loads(live["metadata"]["annotations"][STATUS_ANNOTATION])["vectors"] == 7


async def test_without_the_permission_to_annotate_conditions_and_events_come_all_the_same(
    served: Namespace, foreign_provider_crd: None, caplog: pytest.LogCaptureFixture
) -> None:
    served.provider()
    ref, event = ProviderRef(served.name, "memory-embeddings"), ProviderEvent("Warning", "ConsentRequired", "held")
    async with open_api(served.kubeconfig_of("memory-operator")) as api:
        source = KubeSource(api, [served.name])
        provider = await source.get(ref)
        assert provider is not None
        for vectors in (5, 6, 7):
            await source.publish(ref, provider.uid, held(vectors), [event])
    live = served.get("provider", "memory-embeddings")
    ready = next(each for each in live["status"]["conditions"] if each["type"] == "EmbeddingReady")
    assert ready["reason"] == "ConsentRequired"
    assert [each["reason"] for each in served.items("events")] == ["ConsentRequired"] * 3
    assert caplog.text.count("needs patch on providers") == 1, "it is not tried with each write"


async def test_each_reason_is_seen_on_the_object(world: World, foreign: Namespace) -> None:
    async with operating(world, foreign), world.worker():
        foreign.provider("first")
        await reason_of(foreign, "first", "EmbeddingReady", "Ready")
        foreign.provider("second")
        await reason_of(foreign, "second", "EmbeddingReady", "DuplicateSpace")
        missing = {"type": "openai", "model": "text-embedding-3-small", "embedding": {"dimensions": 1536}}
        foreign.provider("third", **missing, credential={"secretRef": {"name": "none"}})
        await reason_of(foreign, "third", "EmbeddingCredentialResolved", "SecretMissing")
        foreign.kubectl("create", "secret", "generic", "key", "--from-literal=api-key=hush")
        foreign.provider("fourth", type="claude", credential={"secretRef": {"name": "key"}})
        await reason_of(foreign, "fourth", "EmbeddingReady", "UnsupportedType")
        foreign.provider("first", embedding={"dimensions": 32})
        await reason_of(foreign, "first", "EmbeddingReady", "Ready")
    told = {(each["involvedObject"]["name"], each["reason"]) for each in foreign.items("events")}
    assert told >= {("second", "DuplicateSpace"), ("third", "SecretMissing"), ("fourth", "UnsupportedType")}


async def reason_of(namespace: Namespace, name: str, kind: str, reason: str) -> None:
    """Wait for a condition with that reason, and for the annotation to say the same where it is a fault."""

    async def is_there() -> bool:
        live = await asyncio.to_thread(namespace.get, "provider", name)
        found = {each["type"]: each["reason"] for each in live.get("status", {}).get("conditions", [])}
        figures = json.loads(live["metadata"].get("annotations", {}).get(STATUS_ANNOTATION, "{}"))
        return found.get(kind) == reason == figures.get("reason", "Ready")

    await until(is_there, f"{kind} of {name} is {reason}")
