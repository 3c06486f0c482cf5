"""A Provider object as it comes from an API server or a file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from memory_operator.contract.provider import EmbeddingSpec, ProviderSpec

ANNOTATION_PREFIX = "memory-operator/"
STATUS_ANNOTATION = f"{ANNOTATION_PREFIX}embedding-status"


class ProviderRef(NamedTuple):
    """Identity of a Provider."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ProviderObject:
    """A Provider with what we need of its metadata."""

    ref: ProviderRef
    uid: str
    generation: int
    created_at: datetime
    spec: ProviderSpec | None
    """None where it cannot be read; `problems` says why."""
    problems: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def parse_provider(manifest: Mapping[str, Any]) -> ProviderObject:
    """Read an object. A spec that cannot be read becomes problems, each with its field's path; nothing is raised.

    Where the installed CRD has no such field, `memory-operator/<field>` annotations stand in for spec.embedding.
    """
    metadata = _mapping(manifest.get("metadata"))
    annotations = {str(k): str(v) for k, v in _mapping(metadata.get("annotations")).items()}
    spec, problems = parse_spec(manifest.get("spec"), annotations)
    return ProviderObject(
        ref=ProviderRef(str(metadata.get("namespace") or "default"), str(metadata.get("name") or "")),
        uid=str(metadata.get("uid") or ""),
        generation=_whole(metadata.get("generation")),
        created_at=_time(metadata.get("creationTimestamp")),
        spec=spec,
        problems=problems,
        annotations=annotations,
    )


def parse_spec(spec: Any, annotations: Mapping[str, str]) -> tuple[ProviderSpec | None, tuple[str, ...]]:
    """The spec, or why it cannot be read."""
    if not isinstance(spec, Mapping):
        return None, ("spec: is missing",)
    merged, problems = with_annotations(dict(spec), annotations)
    if problems:
        return None, problems
    try:
        return ProviderSpec.model_validate(merged), ()
    except ValidationError as error:
        return None, tuple(_problem(detail) for detail in error.errors())


def with_annotations(spec: dict[str, Any], annotations: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The spec with `memory-operator/<field>` annotations in place of what its embedding leaves out, and what is wrong
    with those annotations.
    """
    known = {info.alias or name for name, info in EmbeddingSpec.model_fields.items()}
    ours = {
        key.removeprefix(ANNOTATION_PREFIX): value
        for key, value in annotations.items()
        if key.startswith(ANNOTATION_PREFIX) and key != STATUS_ANNOTATION
    }
    embedding = dict(spec["embedding"]) if isinstance(spec.get("embedding"), Mapping) else {}
    problems = []
    for name, text in ours.items():
        if name not in known:
            problems.append(f"metadata.annotations[{ANNOTATION_PREFIX}{name}]: unknown field{_guess(name, known)}")
        elif name not in embedding:
            embedding[name] = _value(name, text)
    if ours and spec.get("role") == "embedding":
        spec["embedding"] = embedding
    return spec, tuple(problems)


_TEXT_FIELDS = {"distance", "columnType", "dimensionChange", "activation", "queryPrefix", "documentPrefix"}


def _value(name: str, text: str) -> Any:
    if name in _TEXT_FIELDS:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _problem(detail: Any) -> str:
    path = ".".join(["spec", *(str(part) for part in detail["loc"])])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown field{_guess(str(detail['loc'][-1]), _siblings(detail['loc']))}"
    return f"{path}: {str(detail['msg']).removeprefix('Value error, ')}"


def _siblings(location: tuple[Any, ...]) -> set[str]:
    model: Any = ProviderSpec if len(location) == 1 else EmbeddingSpec if location[0] == "embedding" else None
    return {info.alias or name for name, info in model.model_fields.items()} if model else set()


def _guess(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
