"""Alerts and dashboard ask for figures that processes have; each alert has its page of the runbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from fixtures.chart import CHART, OFFLINE, ROOT, Chart, named
from memory_operator.metrics import Metrics
from memory_webhook.metrics import WebhookMetrics

ALERTS: list[dict[str, Any]] = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
OF_PROMETHEUS = {"namespace", "pod", "le", "app_kubernetes_io_component"}
"""Labels that come from where a figure was read, or from a histogram."""


def figures() -> dict[str, set[str]]:
    """Every time series of our processes, with its labels."""
    found: dict[str, set[str]] = {}
    for registry in (Metrics().registry, WebhookMetrics().registry):
        found |= dict(_series(registry))
    return found


def _series(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    for collector, names in registry._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        for name in names:
            yield name, labels


def series_in(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The series in an expression, with the labels that selectors name."""
    for name, selector in re.findall(r"\b((?:memory|process)_[a-z_]+)\{([^}]*)\}", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", selector))


def expressions() -> Iterator[tuple[str, str]]:
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_every_figure_that_is_asked_for_exists_with_its_labels() -> None:
    known = figures()
    for place, expression in expressions():
        names = list(series_in(expression))
        assert names, place
        for name, labels in names:
            assert name in known, f"{place}: {name}"
            assert labels <= known[name] | OF_PROMETHEUS, f"{place}: {name}"
        kept = {each.strip() for group in re.findall(r"by \(([^)]+)\)", expression) for each in group.split(",")}
        assert kept <= set().union(*(known[name] for name, _ in names)) | OF_PROMETHEUS, place


def test_every_alert_has_its_page_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert re.findall(r"^## (Memory\w+)$", runbook, re.MULTILINE) == [alert["alert"] for alert in ALERTS]


def test_every_alert_says_what_and_how_bad() -> None:
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("warning", "critical"), alert["alert"]
        assert set(alert["annotations"]) == {"summary", "description"}, alert["alert"]


def test_what_the_issue_of_an_alert_needs_is_covered() -> None:
    names = {alert["alert"] for alert in ALERTS}
    assert names >= {
        "MemoryChangeHeld",
        "MemoryFillStalled",
        "MemoryEmbedderDown",
        "MemoryQuarantineGrows",
        "MemoryBudgetReached",
        "MemoryCertificateExpires",
    }


def test_the_rules_are_of_the_releases_namespace_and_can_be_chosen(chart: Chart) -> None:
    values = {
        "metrics": {
            "prometheusRule": {
                "enabled": True,
                "disabled": ["MemoryAPIFails"],
                "alertLabels": {"team": "platform"},
                "runbookURL": "https://example.com/runbook",
                "extraRules": [{"alert": "Mine", "expr": "vector(1)"}],
            }
        }
    }
    ours, extra = named(chart.render(OFFLINE, values), "PrometheusRule", "memory")["spec"]["groups"]
    assert [rule["alert"] for rule in ours["rules"]] == [a["alert"] for a in ALERTS if a["alert"] != "MemoryAPIFails"]
    for rule in ours["rules"]:
        assert 'namespace="memory-system"' in rule["expr"]
        assert not {"NAMESPACE", "FILLER"} & set(re.findall(r"\w+", json.dumps(rule)))
        assert rule["labels"]["team"] == "platform"
        assert rule["annotations"]["runbook_url"] == f"https://example.com/runbook#{rule['alert'].lower()}"
    assert extra["rules"] == [{"alert": "Mine", "expr": "vector(1)"}]


@pytest.mark.parametrize(
    ("worker", "filler"),
    [
        ({}, "worker"),
        ({"replicaCount": 0}, "operator"),
        ({"autoscaling": {"enabled": True}}, "worker"),
        ({"keda": {"enabled": True}}, "operator"),
        ({"keda": {"enabled": True, "minReplicas": 1}}, "worker"),
        ({"autoscaling": {"enabled": True, "minReplicas": 1}}, "worker"),
    ],
)
def test_who_is_missed_is_who_should_be_there(chart: Chart, worker: dict[str, Any], filler: str) -> None:
    values = {"worker": worker, "metrics": {"prometheusRule": {"enabled": True}}}
    (group,) = named(chart.render(OFFLINE, values), "PrometheusRule", "memory")["spec"]["groups"]
    (rule,) = [rule for rule in group["rules"] if rule["alert"] == "MemoryProcessDown"]
    missed = re.findall(r'app_kubernetes_io_component="(\w+)"', rule["expr"])
    assert missed == ["operator", "api", filler]


def test_the_dashboard_is_whole_and_reaches_the_cluster_as_it_is(chart: Chart) -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource", "namespace"}
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    objects = chart.render(OFFLINE, {"metrics": {"dashboard": {"enabled": True}}})
    assert json.loads(named(objects, "ConfigMap", "memory-dashboard")["data"]["memory-operator.json"]) == DASHBOARD


def test_every_metric_is_in_the_table_of_metrics() -> None:
    table = (ROOT / "docs" / "metrics.md").read_text()
    for name in figures():
        if name.startswith("memory_") and not name.endswith(("_created", "_bucket", "_count", "_sum")):
            assert f"`{name}`" in table or f"`{name}_total`" in table, name
