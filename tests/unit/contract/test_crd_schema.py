"""The CRD: generated from the models, structural, and saying what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from memory_operator.contract.crd import provider_crd, render_crd, structural_schema
from memory_operator.contract.provider import EmbeddingSpec, ProviderSpec

CRD_FILE = Path(__file__).parents[3] / "crds" / "omnia.altairalabs.ai_providers.yaml"


def version() -> dict[str, Any]:
    return provider_crd()["spec"]["versions"][0]


def schema(*path: str) -> dict[str, Any]:
    node = version()["schema"]["openAPIV3Schema"]
    for part in path:
        node = node["properties"][part]
    return node


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in (*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")):
        if child is not None:
            yield from nodes(child)


def test_the_file_in_crds_is_what_the_models_generate() -> None:
    assert CRD_FILE.read_text() == render_crd(), "run `make generate`"


def test_the_yaml_reads_back_as_the_manifest_without_anchors() -> None:
    text = render_crd()
    assert yaml.safe_load(text) == provider_crd()
    assert "&id" not in text


def test_every_node_has_a_type_and_no_reference_or_choice_is_left() -> None:
    for node in nodes(schema()):
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}
        assert not {"$ref", "$defs", "anyOf", "oneOf", "title"} & set(node)
        assert not ("properties" in node and "additionalProperties" in node)


def test_every_field_of_the_spec_is_described_and_in_camel_case() -> None:
    names = set(schema("spec")["properties"])
    assert names == {info.alias or name for name, info in ProviderSpec.model_fields.items()}
    assert {"baseURL", "validateCredentials", "stt", "tts"} <= names
    assert set(schema("spec", "embedding")["properties"]) == {
        info.alias or name for name, info in EmbeddingSpec.model_fields.items()
    }
    for node in schema("spec")["properties"].values():
        assert node["description"]


def test_dimensions_go_from_1_to_4096() -> None:
    dimensions = schema("spec", "embedding", "dimensions")
    assert (dimensions["minimum"], dimensions["maximum"]) == (1, 4096)


def test_only_headers_take_any_key_and_only_speech_keeps_what_we_do_not_know() -> None:
    maps = [node for node in nodes(schema("spec")) if "additionalProperties" in node]
    assert maps == [schema("spec", "headers")]
    open_nodes = [node for node in nodes(schema()) if "x-kubernetes-preserve-unknown-fields" in node]
    assert open_nodes == [schema("spec", "tts"), schema("spec", "stt")]


def test_nothing_in_the_status_has_a_default_so_that_an_unknown_figure_never_becomes_0() -> None:
    assert not [node for node in nodes(schema("status")) if "default" in node]
    assert schema("spec", "role")["default"] == "llm"


def test_conditions_are_a_list_with_one_entry_for_each_type() -> None:
    conditions = schema("status", "conditions")
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_whatever_a_rule_in_cel_looks_at_is_bounded_in_length() -> None:
    for node in nodes(schema()):
        if node["type"] == "string" and "x-kubernetes-validations" in node:
            assert node["maxLength"] <= 2048


def test_kubectl_get_shows_the_columns_of_the_design() -> None:
    shown = [column["name"] for column in version()["additionalPrinterColumns"] if not column.get("priority")]
    assert shown == ["Type", "Model", "Dimension", "Active", "Coverage", "Phase", "Age"]


def test_names_are_those_that_people_type() -> None:
    names = provider_crd()["spec"]["names"]
    assert names["shortNames"] == ["prov"]
    assert names["singular"] == "provider"
    assert names["categories"] == ["omnia"]
    assert provider_crd()["spec"]["scope"] == "Namespaced"


class Choice(BaseModel):
    """What no structural schema can describe."""

    value: int | str


class Anything(BaseModel):
    """The same."""

    value: Any


@pytest.mark.parametrize("model", [Choice, Anything])
def test_a_model_that_no_structural_schema_can_describe_is_refused(model: type[BaseModel]) -> None:
    with pytest.raises(ValueError, match="structural schema"):
        structural_schema(model)
