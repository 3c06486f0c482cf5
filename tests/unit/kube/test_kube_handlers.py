"""What of a watched Provider asks for a reconcile, what an Event looks like, whose CRD it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import kopf
import pytest

from memory_operator.contract.resource import STATUS_ANNOTATION, ProviderRef
from memory_operator.engine.ports.sources import ProviderEvent
from memory_operator.errors import SourceUnavailable
from memory_operator.kube.crd_owner import owner_of
from memory_operator.kube.events import event_manifest
from memory_operator.kube.handlers import Seen, settings

REF = ProviderRef("agents", "memory")


def meta(uid: str = "1", generation: int = 1, **annotations: str) -> dict[str, Any]:
    return {"uid": uid, "generation": generation, "annotations": annotations}


def test_a_status_alone_is_nothing_new() -> None:
    seen = Seen()
    assert seen.is_new(REF, {**meta(), "resourceVersion": "1"})
    assert not seen.is_new(REF, {**meta(), "resourceVersion": "2"})


@pytest.mark.parametrize(
    "changed",
    [meta(generation=2), meta(uid="2"), meta(**{"memory-operator/dimensionChange": "Shadow"})],
    ids=["generation", "uid", "annotation"],
)
def test_what_can_change_a_decision_is_new(changed: dict[str, Any]) -> None:
    seen = Seen()
    seen.is_new(REF, meta())
    assert seen.is_new(REF, changed)
    assert not seen.is_new(REF, changed)


def test_the_figures_we_write_into_an_annotation_are_nothing_new() -> None:
    seen = Seen()
    seen.is_new(REF, meta())
    assert not seen.is_new(REF, meta(**{STATUS_ANNOTATION: "{}"}))
    assert not seen.is_new(REF, meta(**{"kubectl.kubernetes.io/restartedAt": "now"}))


def test_an_object_without_annotations_can_be_looked_at() -> None:
    assert Seen().is_new(REF, {"uid": "1"})
    assert Seen().is_new(REF, {"uid": "1", "annotations": None})


def test_a_forgotten_provider_is_new_again() -> None:
    seen = Seen()
    seen.is_new(REF, meta())
    seen.forget(REF)
    assert seen.is_new(REF, meta())


class Recorder:
    """Stands for the operator."""

    def __init__(self) -> None:
        self.enqueued: list[ProviderRef] = []
        self.listings = 0

    def enqueue(self, ref: ProviderRef) -> None:
        self.enqueued.append(ref)

    def listed_again(self) -> None:
        self.listings += 1


def event(kind: str | None, generation: int = 1, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": REF.namespace, "name": REF.name, **meta(generation=generation)}
    return {"type": kind, "object": {"metadata": metadata, "spec": spec}}


def embedding(kind: str | None, generation: int = 1) -> dict[str, Any]:
    return event(kind, generation, type="mock", role="embedding", model="m")


def llm(kind: str | None, generation: int = 1) -> dict[str, Any]:
    return event(kind, generation, type="claude", model="haiku")


def told(*events: dict[str, Any]) -> tuple[list[ProviderRef], int]:
    """What so many events trigger."""
    recorder, seen = Recorder(), Seen()
    for each in events:
        seen.tell(recorder, each)
    return recorder.enqueued, recorder.listings


def test_a_provider_of_another_role_triggers_nothing_whatever_happens_to_it() -> None:
    assert told(llm(None), llm("MODIFIED", 2), llm("DELETED", 2), llm("ADDED", 1)) == ([], 0)


def test_an_embedding_provider_that_takes_another_role_asks_for_a_listing_once() -> None:
    assert told(embedding(None), llm("MODIFIED", 2), llm("MODIFIED", 3), llm("DELETED", 3)) == ([REF], 1)


def test_a_provider_that_becomes_an_embedding_one_asks_for_a_reconcile() -> None:
    assert told(llm(None), embedding("MODIFIED", 2)) == ([REF], 0)


def test_the_deletion_of_an_embedding_provider_asks_for_a_listing_seen_before_or_not() -> None:
    assert told(embedding("DELETED")) == ([], 1)
    assert told(embedding(None), embedding("DELETED")) == ([REF], 1)


def test_a_provider_that_cannot_be_read_asks_for_a_reconcile() -> None:
    assert told(event(None, type="mock", role="nonsense")) == ([REF], 0)


def test_kopf_neither_kills_us_nor_posts_nor_scans() -> None:
    chosen = settings()
    assert chosen.process.ultimate_exiting_timeout is None
    assert chosen.scanning.disabled
    assert chosen.peering.standalone
    assert not chosen.posting.enabled
    assert isinstance(chosen, kopf.OperatorSettings)


@pytest.mark.parametrize("text", ["x" * 3000, "é" * 3000, "短" * 1000])
def test_an_event_is_never_longer_than_kubernetes_takes(text: str) -> None:
    manifest = event_manifest(REF, "1", ProviderEvent("Warning", "R" * 200, text), datetime.now(UTC))
    assert 1000 < len(manifest["message"].encode()) <= 1024
    assert manifest["message"].endswith("…")
    assert len(manifest["reason"]) == 128


def test_a_short_message_of_an_event_stays_as_it_is() -> None:
    manifest = event_manifest(REF, "1", ProviderEvent("Normal", "Ready", "fine"), datetime.now(UTC))
    assert manifest["message"] == "fine"
    assert manifest["involvedObject"]["uid"] == "1"


def document(status: dict[str, Any]) -> dict[str, Any]:
    kinds = [{"group": "omnia.altairalabs.ai", "version": "v1alpha1", "kind": "Provider"}]
    provider = {"x-kubernetes-group-version-kind": kinds, "properties": {"status": {"properties": status}}}
    return {"components": {"schemas": {"other": {"type": "object"}, "provider": provider}}}


def test_a_crd_with_room_for_the_figures_is_ours() -> None:
    assert owner_of(document({"phase": {}, "embedding": {}})) == "ours"


def test_a_crd_without_it_is_the_groups_own() -> None:
    assert owner_of(document({"phase": {}})) == "foreign"


def test_a_schema_without_the_kind_proves_nothing() -> None:
    with pytest.raises(SourceUnavailable):
        owner_of({"components": {"schemas": {}}})
