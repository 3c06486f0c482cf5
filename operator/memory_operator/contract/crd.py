"""The CustomResourceDefinition, generated from the pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from memory_operator.contract.provider import GROUP, KIND, PLURAL, VERSION, ProviderSpec
from memory_operator.contract.status import ProviderStatus

Schema = dict[str, Any]

_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-validations",
)
"""Keywords of JSON schema that mean the same in a structural schema."""

_COLUMNS = (
    ("Type", "string", ".spec.type", 0),
    ("Model", "string", ".spec.model", 0),
    ("Dimension", "integer", ".status.embedding.appliedDimensions", 0),
    ("Active", "boolean", ".status.embedding.active", 0),
    ("Coverage", "number", ".status.embedding.coverage", 0),
    ("Phase", "string", ".status.phase", 0),
    ("Role", "string", ".spec.role", 1),
    ("Desired", "integer", ".status.embedding.desiredDimensions", 1),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
"""Name, type, JSON path and priority of each column; priority 1 means only with `-o wide`."""


def provider_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of Providers, as a manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["prov"],
                "categories": ["omnia"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": _object_schema()},
                }
            ],
        },
    }


def render_crd() -> str:
    """The CustomResourceDefinition as YAML, with a note on where it comes from."""
    note = "# Generated from operator/memory_operator/contract by `make generate`; a test fails when it differs.\n"
    return note + yaml.dump(provider_crd(), Dumper=_WithoutAnchors, sort_keys=False, width=110)


class _WithoutAnchors(yaml.SafeDumper):
    """Writes a value out each time that it occurs."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as the base class calls it
        return True


def structural_schema(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The structural OpenAPI v3 schema of a model: no references, no null, only keywords that a CRD may have.

    Raises ValueError for a model that no structural schema can describe.
    """
    source = model.model_json_schema(by_alias=True)
    return _structural(source, source.get("$defs", {}), defaults=defaults)


def _object_schema() -> Schema:
    spec = structural_schema(ProviderSpec)
    # A default in the status would turn a figure that is unknown into a 0.
    status = structural_schema(ProviderStatus, defaults=False)
    status["description"] = "What memory-operator found and did; written by it alone."
    conditions = status["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return {
        "type": "object",
        "description": "A model at a vendor. With role embedding, it is the one that memories are embedded with.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


def _column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any], *, defaults: bool) -> Schema:
    node = _resolved(node, definitions)
    schema: Schema = {key: node[key] for key in _KEPT if key in node}
    if "type" not in schema:
        raise ValueError(f"no type in {sorted(node)}: a structural schema needs one")
    if defaults and node.get("default") is not None:
        schema["default"] = node["default"]
    if schema["type"] == "integer":
        schema["format"] = "int64"
    if node.get("properties"):
        schema["properties"] = {
            name: _structural(value, definitions, defaults=defaults) for name, value in node["properties"].items()
        }
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions, defaults=defaults)
    extra = node.get("additionalProperties")
    if isinstance(extra, Mapping):
        schema["additionalProperties"] = _structural(extra, definitions, defaults=defaults)
    elif extra is True:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node with its reference and its `X or null` replaced by X; what the node itself says wins."""
    while "$ref" in node or "anyOf" in node:
        own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        if "$ref" in node:
            node = {**definitions[node["$ref"].rpartition("/")[2]], **own}
            continue
        choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(choices) != 1:
            raise ValueError("a structural schema has no choice between types")
        node = {**choices[0], **own}
    return node
