"""Every scenario, and every switch, as a real API server sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.chart import CHART, OFFLINE, SCENARIOS, Chart, HelmRefusalError, Manifest, Releases, manifests, overlay

BASE: dict[str, Any] = {"database": {"existingSecret": "memory-db-app"}}

COMPANIONS: dict[str, dict[str, Any]] = {
    "api.ingress.enabled": {"api": {"ingress": {"hosts": ["memory.example.com"]}}},
    "postgresql.embedded": {"database": {"existingSecret": ""}},
    "postgresql.persistence.enabled": {"postgresql": {"embedded": True}, "database": {"existingSecret": ""}},
} | {
    f"{component}.serviceAccount.create": {component: {"serviceAccount": {"name": "of-somebody"}}}
    for component in ("operator", "api", "worker", "webhook", "postgresql")
}
"""What else a switch needs; without it the chart says so."""

REFUSED = {
    "containerSecurityContext.allowPrivilegeEscalation": "violates PodSecurity",
    "podSecurityContext.runAsNonRoot": "violates PodSecurity",
}
"""What a namespace that holds its pods to the strictest standard refuses."""


def switches(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:
    """Every boolean of the values, by its path."""
    for key, value in values.items():
        here = f"{path}.{key}".removeprefix(".")
        if isinstance(value, bool):
            yield here, value
        elif isinstance(value, dict):
            yield from switches(value, here)


def at(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: at(rest, value) if rest else value}


DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
FLIPS = dict(switches(DEFAULTS))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_kubectl_would_apply_every_scenario_and_warns_of_nothing(scenario: Path, releases: Releases) -> None:
    text = releases.text(scenario)
    done = releases.control_plane.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
    assert len(done.stdout.splitlines()) == len(manifests(text))
    assert "Warning" not in done.stderr, done.stderr


@pytest.fixture
def leaves_nothing(releases: Releases) -> Iterator[list[str]]:
    """Texts of one release, of which the last one's objects are deleted again, in the whole cluster."""
    applied: list[str] = []
    yield applied
    crds = [each for each in manifests(applied[-1]) if each["kind"] == "CustomResourceDefinition"]
    releases.control_plane.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", input=applied[-1])
    for crd in crds:
        releases.control_plane.remove_crd(crd["metadata"]["name"])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_server_side_apply_takes_every_scenario_and_another_one_over_it(
    scenario: Path, releases: Releases, leaves_nothing: list[str]
) -> None:
    more = {each: {"extraEnv": [{"name": "MEMORY_LOG_FORMAT", "value": "text"}]} for each in ("operator", "worker")}
    for text in (releases.text(scenario), releases.text(scenario, more, {"commonLabels": {"team": "other"}})):
        leaves_nothing.append(text)
        done = releases.control_plane.kubectl("apply", "--server-side", "-f", "-", input=text)
        assert len(done.stdout.splitlines()) == len(manifests(text))
        assert "Warning" not in done.stderr, done.stderr
    path = "/apis/apps/v1/namespaces/memory-system/deployments/memory-worker"
    worker = releases.control_plane.request("GET", path).body
    assert worker["metadata"]["labels"]["team"] == "other"
    (main, *_) = worker["spec"]["template"]["spec"]["containers"]
    assert [each["value"] for each in main["env"] if each["name"] == "MEMORY_LOG_FORMAT"] == ["text"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name.removesuffix("-values.yaml"))
def test_kustomize_puts_a_label_on_every_object_of_every_scenario(
    scenario: Path, releases: Releases, tmp_path: Path
) -> None:
    text = releases.text(scenario)
    (tmp_path / "all.yaml").write_text(text)
    labels = [{"pairs": {"team": "theirs"}, "includeSelectors": False, "includeTemplates": True}]
    kustomization = {"kind": "Kustomization", "resources": ["all.yaml"], "labels": labels}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    built = manifests(releases.control_plane.kubectl("kustomize", str(tmp_path)).stdout)
    assert len(built) == len(manifests(text))
    for each in built:
        assert each["metadata"]["labels"]["team"] == "theirs"
        if each["kind"] in ("Deployment", "StatefulSet"):
            assert each["spec"]["template"]["metadata"]["labels"]["team"] == "theirs"
    done = releases.control_plane.kubectl("apply", "--dry-run=server", "-k", str(tmp_path))
    assert len(done.stdout.splitlines()) == len(built)
    assert "Warning" not in done.stderr, done.stderr


def test_kubectl_would_apply_the_defaults_with_a_database(releases: Releases) -> None:
    text = releases.text(BASE)
    done = releases.control_plane.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
    assert "Warning" not in done.stderr, done.stderr


def test_the_api_server_takes_the_release_with_each_switch_the_other_way(releases: Releases) -> None:
    refused: dict[str, str] = {}
    seen: set[str] = set()
    for path, value in FLIPS.items():
        values = overlay(overlay(BASE, COMPANIONS.get(path, {})), at(path, not value))
        for manifest in releases.render(values):
            digest = json.dumps(manifest, sort_keys=True)
            if digest not in seen and (reason := releases.dry_run(manifest, "memory-system")):
                refused[path] = reason
            seen.add(digest)
    assert set(refused) == set(REFUSED), refused
    assert all(REFUSED[path] in reason for path, reason in refused.items()), refused


def test_each_switch_changes_what_is_rendered(chart: Chart) -> None:
    """A switch that does nothing is worse than none."""
    same = []
    for path, value in FLIPS.items():
        companions = COMPANIONS.get(path, {})
        if "postgresql" in path:
            companions = overlay(companions, {"postgresql": {"auth": {"existingSecret": "p"}}})
        if path == "postgresql.serviceAccount.create":
            companions = overlay(companions, {"postgresql": {"embedded": True}, "database": {"existingSecret": ""}})
        if path == "postgresql.embedded":
            continue  # without it there is no other database: the scenario `embedded` tells the difference
        before, after = (chart.render(overlay(OFFLINE, companions), at(path, each)) for each in (value, not value))
        if before == after:
            same.append(path)
    assert same == []


def test_lint_finds_nothing(chart: Chart) -> None:
    for values in [*SCENARIOS, BASE]:
        chart.run("lint", "--strict", str(CHART), "-f", chart.values(values))


def test_the_api_server_refuses_what_is_wrong(releases: Releases) -> None:
    """The check itself would notice."""
    pod: Manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    spec = {"containers": [{"name": "c", "image": "i"}]}
    assert "PodSecurity" in (releases.dry_run({**pod, "spec": spec}, "memory-system") or "")
    assert "unknown field" in (releases.dry_run({**pod, "spec": {**spec, "replicas": 1}}, "memory-system") or "")


@pytest.mark.parametrize("component", ["operator", "api", "worker", "webhook"])
def test_a_service_account_that_is_not_made_must_be_named(chart: Chart, component: str) -> None:
    with pytest.raises(HelmRefusalError, match=rf"set {component}\.serviceAccount\.name"):
        chart.render(OFFLINE, at(f"{component}.serviceAccount.create", False))


def test_without_rights_on_the_cluster_nothing_is_cluster_wide(chart: Chart) -> None:
    objects = chart.render(CHART / "ci" / "no-cluster-roles-values.yaml")
    assert {each["metadata"].get("namespace") for each in objects} == {"memory-system"}
