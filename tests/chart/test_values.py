"""values.yaml, values.schema.json and docs/values.md say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fixtures.chart import CHART, OFFLINE, Chart, HelmRefusalError, overlay

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
OPEN = {"global"}
"""Objects that may hold what the chart does not know: a parent chart's."""


def schema_at(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return SCHEMA["$defs"][reference.rsplit("/", 1)[-1]] if reference else schema


def closed(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the schema that names its keys, by path."""
    schema = schema_at(schema)
    if "properties" in schema:
        yield path, schema
        for key, below in schema["properties"].items():
            yield from closed(below, f"{path}.{key}".removeprefix("."))


def documented(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Where values and schema differ."""
    properties = schema_at(schema).get("properties")
    if properties is None:
        return
    for key in set(values) ^ set(properties):
        here = f"{path}.{key}".removeprefix(".")
        if path not in SPARSE:
            yield f"{here} is {'not in the schema' if key in values else 'not in values.yaml'}"
    for key in set(values) & set(properties):
        if isinstance(values[key], dict):
            yield from documented(values[key], properties[key], f"{path}.{key}".removeprefix("."))


RESOURCES = {f"{each}.resources" for each in ("operator", "api", "worker", "webhook", "postgresql", "test")}
SPARSE = RESOURCES | {"webhook.tls.certManager.issuerRef"}
"""Objects of Kubernetes' own, of which values.yaml gives what is set."""


def test_the_schema_knows_each_value_and_no_other() -> None:
    assert list(documented(VALUES, SCHEMA)) == []


def test_every_value_has_its_comment() -> None:
    bare = []
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        key = line.strip().split(":")[0]
        is_key = ":" in line and not line.strip().startswith(("#", "-", "{")) and not _inside_a_default(lines, number)
        if is_key and not line.rstrip().endswith(":") and not lines[number - 1].strip().startswith("#"):
            bare.append(key)
    assert bare == []


def _inside_a_default(lines: list[str], number: int) -> bool:
    """Whether a line belongs to a default that is an object or a list, such as resources."""
    indent = len(lines[number]) - len(lines[number].lstrip())
    for above in reversed(lines[:number]):
        if above.strip() and not above.strip().startswith("#") and len(above) - len(above.lstrip()) < indent:
            name = above.strip().split(":")[0].removeprefix("- ")
            return name in {"resources", "podSecurityContext", "containerSecurityContext", "maxSkew"}
    return False


def test_every_object_of_the_schema_is_closed() -> None:
    assert [path for path, each in closed(SCHEMA) if each.get("additionalProperties") is not False] == sorted(OPEN)


def test_an_unknown_value_is_refused_with_its_name(chart: Chart) -> None:
    wrong: dict[str, Any] = dict(OFFLINE)
    paths = [path for path, _ in closed(SCHEMA) if path not in OPEN]
    for path in paths:
        key = f"unknown-in-{path.replace('.', '-') or 'all'}"
        over: dict[str, Any] = {key: 1}
        for part in reversed(path.split(".") if path else []):
            over = {part: over}
        wrong = overlay(wrong, over)
    with pytest.raises(HelmRefusalError) as caught:
        chart.render(wrong)
    for path in paths:
        assert f"unknown-in-{path.replace('.', '-') or 'all'}" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"api": {"replicaCount": "two"}}, "/api/replicaCount"),
        ({"operator": {"onUnconsentedChange": "Ask"}}, "/operator/onUnconsentedChange"),
        ({"database": {"url": "mysql://h/d"}}, "/database/url"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"providers": {"namespaces": "agents"}}, "/providers/namespaces"),
        ({"worker": {"extraEnv": [{"name": "A", "valu": "b"}]}}, "/worker/extraEnv/0"),
        ({"rbac": {"bindings": [{"role": "everything", "subjects": []}]}}, "/rbac/bindings/0"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(chart: Chart, values: dict[str, Any], path: str) -> None:
    with pytest.raises(HelmRefusalError) as caught:
        chart.render(OFFLINE, values)
    assert path in str(caught.value)


def test_the_defaults_are_valid(chart: Chart) -> None:
    assert chart.render(OFFLINE, VALUES | OFFLINE)


def test_a_parent_chart_may_hand_down_globals_of_its_own(chart: Chart) -> None:
    assert chart.render(OFFLINE, {"global": {"somethingElse": True}})
