"""Who fills, how many there are of them, and how much at a time."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.chart import (
    CHART,
    OFFLINE,
    Chart,
    containers,
    manifests,
    named,
    overlay,
)

PENDING_QUERY = "select chunks from memory_pending_work"
"""tests/component/db/test_pending_work.py shows what it says."""

PROCESSES = ("operator", "api", "worker")


def test_the_operator_fills_only_where_nobody_else_does(chart: Chart) -> None:
    def fills(values: dict[str, Any]) -> str:
        operator = named(chart.render(overlay(OFFLINE, values)), "Deployment", "memory-operator")
        env = {each["name"]: each.get("value") for each in operator["spec"]["template"]["spec"]["containers"][0]["env"]}
        return str(env["MEMORY_FILL"])

    assert fills({}) == "false"
    assert fills({"worker": {"replicaCount": 0}}) == "true"
    assert fills({"worker": {"replicaCount": 0, "autoscaling": {"enabled": True}}}) == "false"
    assert fills({"operator": {"fill": True}}) == "true"
    assert fills({"operator": {"fill": False}, "worker": {"replicaCount": 0}}) == "false"


def test_each_process_has_as_many_connections_and_fills_as_its_values_say(chart: Chart) -> None:
    values = {component: {"databaseConnections": 10 + place} for place, component in enumerate(PROCESSES)}
    others = {"worker": {"fillsAtOnce": 3, "ledgerDays": 30}, "api": {"workers": 4}}
    objects = containers(chart.render(OFFLINE, values, others))
    for place, component in enumerate(PROCESSES):
        environment = objects[f"Deployment/memory-{component}:{component}"]["env"]
        given = {each["name"]: each.get("value") for each in environment}
        assert given["MEMORY_DATABASE_CONNECTIONS"] == str(10 + place)
        assert given.get("MEMORY_FILLS_AT_ONCE") == (None if component == "api" else "3")
        assert given.get("MEMORY_LEDGER_DAYS") == (None if component == "api" else "30")
        assert given.get("MEMORY_API_WORKERS") == ("4" if component == "api" else None)


@pytest.mark.parametrize("metric", ["auto", "cpu", "pendingChunks"])
@pytest.mark.parametrize("adapter", [True, False])
def test_the_worker_scales_on_what_waits_where_the_cluster_can_tell(chart: Chart, metric: str, adapter: bool) -> None:
    values = overlay(OFFLINE, {"worker": {"autoscaling": {"enabled": True, "metric": metric}}})
    capabilities = ["--api-versions", "external.metrics.k8s.io/v1beta1"] if adapter else []
    text = chart.run("template", "memory", str(CHART), "-f", chart.values(values), *capabilities)
    scaler = named(manifests(text), "HorizontalPodAutoscaler", "memory-worker")["spec"]
    (figure,) = scaler["metrics"]
    assert figure["type"] == ("External" if metric == "pendingChunks" or (metric == "auto" and adapter) else "Resource")
    assert "replicas" not in named(manifests(text), "Deployment", "memory-worker")["spec"]


def test_where_keda_answers_external_metrics_auto_scales_on_cpu(chart: Chart) -> None:
    values = overlay(OFFLINE, {"worker": {"autoscaling": {"enabled": True}}})
    there = ["--api-versions", "external.metrics.k8s.io/v1beta1", "--api-versions", "keda.sh/v1alpha1"]
    objects = manifests(chart.run("template", "memory", str(CHART), "-f", chart.values(values), *there))
    (figure,) = named(objects, "HorizontalPodAutoscaler", "memory-worker")["spec"]["metrics"]
    assert figure["type"] == "Resource"


def test_keda_scales_workers_down_to_none_by_a_query_with_the_databases_own_secret(chart: Chart) -> None:
    objects = chart.render(OFFLINE, {"worker": {"keda": {"enabled": True}}})
    assert "replicas" not in named(objects, "Deployment", "memory-worker")["spec"]
    scaled = named(objects, "ScaledObject", "memory-worker")["spec"]
    assert scaled["scaleTargetRef"] == {"name": "memory-worker"}
    assert scaled["minReplicaCount"] == 0
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["query"] == PENDING_QUERY
    assert trigger["metadata"]["activationTargetQueryValue"] == "0"
    reader = ("TriggerAuthentication", "memory-worker")
    (reference,) = named(objects, *reader)["spec"]["secretTargetRef"]
    assert reference == {"parameter": "connection", "name": "memory-db-app", "key": "uri"}
    role = {"database": {"api": {"role": "memory_api", "existingSecret": "memory-db-api"}}}
    limited = named(chart.render(OFFLINE, role, {"worker": {"keda": {"enabled": True}}}), *reader)
    assert limited["spec"]["secretTargetRef"][0]["name"] == "memory-db-api"
    operator = containers(objects)["Deployment/memory-operator:operator"]["env"]
    assert {"name": "MEMORY_FILL", "value": "false"} in operator
