"""Patches of status and annotations: pure functions of a live Provider and a wanted status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from memory_operator.contract.resource import STATUS_ANNOTATION
from memory_operator.contract.status import Condition, ConditionType, ProviderStatus, set_condition
from memory_operator.kube.boundary import Manifest

_BESIDE_THEIRS: Mapping[str, str] = {
    ConditionType.READY: "EmbeddingReady",
    ConditionType.CREDENTIAL_RESOLVED: "EmbeddingCredentialResolved",
}
"""What our conditions are called on the group's own CRD, whose controller has conditions of these types itself."""


def own_patch(live: Manifest, status: ProviderStatus) -> Manifest:
    """Merge patch of `status` on our CRD; empty when nothing differs, or when something newer is written there."""
    there = _mapping(live.get("status"))
    if (there.get("observedGeneration") or 0) > (status.observed_generation or 0):
        return {}
    wanted = status.model_dump(mode="json", by_alias=True, exclude={"conditions"})
    wanted["conditions"] = merged_conditions(there, status.conditions)
    return difference(there, wanted)


def foreign_patch(live: Manifest, status: ProviderStatus) -> Manifest:
    """Merge patch of `status` on the group's own CRD: our condition types and nothing else."""
    there = _mapping(live.get("status"))
    ours = [each.model_copy(update={"type": _BESIDE_THEIRS.get(each.type, each.type)}) for each in status.conditions]
    return difference(there, {"conditions": merged_conditions(there, ours)}) if ours else {}


def seen_generation(live: Manifest, *, foreign: bool) -> int | None:
    """The generation that the status of ours on a live Provider is about."""
    there = _mapping(live.get("status"))
    if not foreign:
        return there.get("observedGeneration")
    ready = _BESIDE_THEIRS[ConditionType.READY]
    return next((each.get("observedGeneration") for each in _conditions(there) if each.get("type") == ready), None)


def foreign_annotations(live: Manifest, status: ProviderStatus) -> Manifest:
    """Merge patch of `metadata.annotations` that carries phase, reason and figures; that status has no room."""
    figures: dict[str, Any] = {"phase": str(status.phase)}
    for condition in status.conditions:
        if condition.type == ConditionType.READY and condition.status != "True":
            figures |= {"reason": condition.reason, "message": condition.message}
    if status.embedding is not None:
        figures |= status.embedding.model_dump(mode="json", by_alias=True, exclude_none=True)
    there = _mapping(_mapping(live.get("metadata")).get("annotations"))
    return difference(there, {STATUS_ANNOTATION: json.dumps(figures, sort_keys=True, separators=(",", ":"))})


def merged_conditions(there: Mapping[str, Any], ours: list[Condition]) -> list[Manifest]:
    """The conditions of a live status with ours set in place; those of other writers stay as they are."""
    live = _conditions(there)
    for condition in ours:
        place = next((i for i, each in enumerate(live) if each.get("type") == condition.type), None)
        old = None if place is None else _read(live[place])
        settled, _ = set_condition([old] if old else [], condition, condition.last_transition_time)
        manifest = _write(settled[0])
        if place is None:
            live.append(manifest)
        else:
            live[place] = manifest
    return live


def difference(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Manifest:
    """The JSON merge patch that brings the wanted keys about; None asks for a key's absence, other keys stay."""
    patch: Manifest = {}
    for key, value in wanted.items():
        there = live.get(key)
        if isinstance(value, dict):
            inner = difference(_mapping(there), value)
            if inner:
                patch[key] = inner
        elif value != there:
            patch[key] = value
    return patch


def _conditions(there: Mapping[str, Any]) -> list[Manifest]:
    return [each for each in there.get("conditions") or [] if isinstance(each, dict)]


def _read(manifest: Manifest) -> Condition | None:
    try:
        return Condition.model_validate(manifest)
    except ValidationError:
        return None  # not a valid condition; ours takes its place


def _write(condition: Condition) -> Manifest:
    manifest = condition.model_dump(mode="json", by_alias=True, exclude_none=True)
    manifest["lastTransitionTime"] = timestamp(condition.last_transition_time)
    return manifest


def timestamp(moment: datetime) -> str:
    """A moment as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
