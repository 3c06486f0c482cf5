"""What is patched onto a Provider, and what is left alone."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

from memory_operator.contract.resource import STATUS_ANNOTATION
from memory_operator.contract.status import (
    Condition,
    ConditionType,
    EmbeddingStatus,
    Phase,
    ProviderStatus,
    Reason,
)
from memory_operator.kube.status import difference, foreign_annotations, foreign_patch, own_patch

EARLIER = "2026-01-01T00:00:00Z"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def condition(kind: ConditionType, ok: bool = True, reason: Reason = Reason.SETTLED) -> Condition:
    return Condition(
        type=kind, status="True" if ok else "False", reason=reason, last_transition_time=NOW, observed_generation=3
    )


def status(*conditions: Condition, **embedding: Any) -> ProviderStatus:
    return ProviderStatus(
        phase=Phase.READY,
        observed_generation=3,
        conditions=list(conditions),
        embedding=EmbeddingStatus(**embedding) if embedding else None,
    )


def apply(live: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396."""
    merged = copy.deepcopy(live)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = apply(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged


def test_a_status_that_is_there_already_needs_no_patch() -> None:
    wanted = status(condition(ConditionType.READY), vectors=5, chunks=5, coverage=1.0, eta_seconds=4)
    live = {"status": apply({}, own_patch({}, wanted))}
    assert own_patch(live, wanted) == {}
    assert own_patch(json.loads(json.dumps(live).replace("1.0", "1")), wanted) == {}


def test_only_what_differs_is_patched() -> None:
    before = status(condition(ConditionType.READY), vectors=5, eta_seconds=4)
    after = status(condition(ConditionType.READY), vectors=6)
    live = {"status": apply({}, own_patch({}, before))}
    assert own_patch(live, after) == {"embedding": {"vectors": 6, "etaSeconds": None}}


def test_a_transition_time_stays_while_the_status_stays() -> None:
    there = {"type": "Ready", "status": "True", "reason": "Old", "message": "", "lastTransitionTime": EARLIER}
    patch = own_patch({"status": {"conditions": [there]}}, status(condition(ConditionType.READY)))
    (ready,) = patch["conditions"]
    assert (ready["lastTransitionTime"], ready["reason"]) == (EARLIER, "Settled")


def test_a_transition_time_moves_when_the_status_moves() -> None:
    there = {"type": "Ready", "status": "False", "reason": "Old", "message": "", "lastTransitionTime": EARLIER}
    patch = own_patch({"status": {"conditions": [there]}}, status(condition(ConditionType.READY)))
    assert patch["conditions"][0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_a_condition_that_cannot_be_read_is_replaced() -> None:
    patch = own_patch({"status": {"conditions": [{"type": "Ready"}]}}, status(condition(ConditionType.READY)))
    assert [each["type"] for each in patch["conditions"]] == ["Ready"]
    assert patch["conditions"][0]["status"] == "True"


def test_conditions_of_other_writers_stay_as_they_are() -> None:
    other = {"type": "SomebodyElses", "status": "Maybe", "extra": 1}
    patch = own_patch({"status": {"conditions": [other]}}, status(condition(ConditionType.READY)))
    assert patch["conditions"][0] == other
    assert [each["type"] for each in patch["conditions"]] == ["SomebodyElses", "Ready"]


def test_a_status_of_an_older_generation_never_overwrites_a_newer_one() -> None:
    assert own_patch({"status": {"observedGeneration": 4}}, status(condition(ConditionType.READY))) == {}


def test_on_a_foreign_crd_only_our_condition_types_are_written() -> None:
    wanted = status(
        condition(ConditionType.READY),
        condition(ConditionType.CREDENTIAL_RESOLVED),
        condition(ConditionType.DIMENSION_SETTLED, False, Reason.CONSENT_REQUIRED),
        vectors=5,
    )
    theirs = {
        "type": "Ready",
        "status": "False",
        "reason": "Theirs",
        "message": "x",
        "lastTransitionTime": EARLIER,
    }
    live = {"status": {"phase": "Error", "observedGeneration": 1, "conditions": [theirs]}}
    patch = foreign_patch(live, wanted)
    assert set(patch) == {"conditions"}
    assert patch["conditions"][0] == theirs
    assert [each["type"] for each in patch["conditions"]] == [
        "Ready",
        "EmbeddingReady",
        "EmbeddingCredentialResolved",
        "DimensionSettled",
    ]


def test_on_a_foreign_crd_a_verdict_on_ready_has_a_type_of_its_own() -> None:
    patch = foreign_patch({}, status(condition(ConditionType.READY, False, Reason.DUPLICATE_SPACE)))
    assert [(each["type"], each["reason"]) for each in patch["conditions"]] == [("EmbeddingReady", "DuplicateSpace")]


def test_on_a_foreign_crd_the_annotation_says_why_it_is_not_ready() -> None:
    refused = condition(ConditionType.READY, False, Reason.SECRET_MISSING).model_copy(update={"message": "no Secret x"})
    figures = json.loads(foreign_annotations({}, status(refused))[STATUS_ANNOTATION])
    assert figures == {"phase": "Ready", "reason": "SecretMissing", "message": "no Secret x"}


def test_on_a_foreign_crd_the_figures_are_an_annotation_written_when_they_differ() -> None:
    wanted = status(vectors=5, chunks=10, coverage=0.5)
    patch = foreign_annotations({"metadata": {"annotations": {"other": "kept"}}}, wanted)
    assert set(patch) == {STATUS_ANNOTATION}
    figures = json.loads(patch[STATUS_ANNOTATION])
    assert figures == {
        "phase": "Ready", "vectors": 5, "chunks": 10, "coverage": 0.5, "quarantined": 0, "active": False
    }  # fmt: skip
    assert foreign_annotations({"metadata": {"annotations": patch}}, wanted) == {}


def test_a_key_that_nobody_wants_is_not_in_the_patch() -> None:
    assert difference({"kept": 1, "gone": 2}, {"gone": None, "never": None, "inner": {"never": None}}) == {"gone": None}
