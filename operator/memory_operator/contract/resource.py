"""A Provider object as it comes from an API server or a file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from memory_operator.contract.fields import DECIMAL_PATTERN, DURATION_PATTERN
from memory_operator.contract.provider import EmbeddingSpec, ProviderSpec, ProviderType, Role

ANNOTATION_PREFIX = "memory-operator/"
STATUS_ANNOTATION = f"{ANNOTATION_PREFIX}embedding-status"
ACTIVATE_ANNOTATION = f"{ANNOTATION_PREFIX}activate"
"""Another value than before asks for the Provider's space to be the one that queries read."""
ACTIVATED_BY_ANNOTATION = f"{ANNOTATION_PREFIX}activate-by"
"""Who set it, where they say so; an admission policy lets nobody name another user."""
_NO_FIELDS = {STATUS_ANNOTATION, ACTIVATE_ANNOTATION, ACTIVATED_BY_ANNOTATION}


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

    @property
    def may_embed(self) -> bool:
        """Whether its role is embedding; of one that cannot be read that is not known."""
        return self.spec is None or self.spec.role == "embedding"


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
    """The spec, or why it cannot be read. Of another role only type and role are kept where the rest cannot be read:
    what is right there is for its own controller to say.
    """
    if not isinstance(spec, Mapping):
        return None, ("spec: is missing",)
    merged, problems = with_annotations(dict(spec), annotations)
    try:
        if not problems:
            return ProviderSpec.model_validate(merged, by_alias=True, by_name=False), ()
    except ValidationError as error:
        problems = tuple(_problem(detail) for detail in error.errors())
    role, provider_type = spec.get("role") or "llm", spec.get("type")
    if role in _OTHER_ROLES and isinstance(provider_type, str) and spec.get("embedding") is None:
        return ProviderSpec.model_construct(role=cast(Role, role), type=cast(ProviderType, provider_type)), ()
    return None, problems


def with_annotations(spec: dict[str, Any], annotations: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The spec with `memory-operator/<field>` annotations in place of what its embedding leaves out, and what is wrong
    with those annotations.
    """
    known = _names(EmbeddingSpec)
    ours = {
        key.removeprefix(ANNOTATION_PREFIX): value
        for key, value in annotations.items()
        if key.startswith(ANNOTATION_PREFIX) and key not in _NO_FIELDS
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


_OTHER_ROLES = tuple(role for role in get_args(Role) if role != "embedding")
_TEXT_FIELDS = {
    "distance",
    "columnType",
    "index",
    "dimensionChange",
    "activation",
    "keepFor",
    "queryPrefix",
    "documentPrefix",
}


def _value(name: str, text: str) -> Any:
    if name in _TEXT_FIELDS:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _problem(detail: ErrorDetails) -> str:
    path = ".".join(["spec", *(str(part) for part in detail["loc"])])
    given, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{path}: unknown field{_guess(str(detail['loc'][-1]), _siblings(detail['loc']))}"
        case "missing":
            return f"{path}: is required"
        case "literal_error":
            words = set(re.findall(r"'([^']*)'", context["expected"]))
            return f"{path}: is none of {', '.join(sorted(words))}{_guess(str(given)[:64], words)}"
        case "string_type" if isinstance(given, int | float):
            return f"{path}: is no text; put it in quotes"
        case "string_pattern_mismatch":
            return f"{path}: {_FORMS.get(context['pattern'], 'is not in the form that is needed')}"
        case "dict_type" | "model_type":
            return f"{path}: has to be a map"
        case _:
            text = detail["msg"].removeprefix("Value error, ")
            field, _, rest = text.partition(" ")
            if not detail["loc"] and field.partition(".")[0] in _names(ProviderSpec):  # a rule of the whole spec
                path, text = f"{path}.{field}", f"{field.rpartition('.')[2]} {rest}"
            return f"{path}: {text}"


_FORMS = {
    DECIMAL_PATTERN: "is no decimal number such as 0.00002",
    DURATION_PATTERN: "is not a duration such as 30s or 1m30s",
}


def _siblings(location: tuple[int | str, ...]) -> set[str]:
    """Names that the last part of a location could have had."""
    model: type[BaseModel] = ProviderSpec
    for part in location[:-1]:
        inner = [info.annotation for name, info in model.model_fields.items() if (info.alias or name) == part]
        models = [each for kind in inner for each in (kind, *get_args(kind)) if _is_model(each)]
        if not models:
            return set()
        model = models[0]
    return _names(model)


def _names(model: type[BaseModel]) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


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
