"""The chart beside what others have in the cluster: another release, the group's CRD, a CRD of an earlier release.

`make e2e-long` runs them: each takes a minute or more.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.node.node import Node
from e2e.release import CHART, MANIFEST, PROVIDER, Release
from fixtures.crowd import requests_in

pytestmark = [pytest.mark.node, pytest.mark.long, pytest.mark.timeout(1200)]

CRD = "providers.omnia.altairalabs.ai"
FOREIGN_CRD = Path(__file__).resolve().parents[1] / "cluster" / "foreign_crd.yaml"
ANNOTATION = "memory-operator/embedding-status"
LISTINGS = 3  # each operator lists the Providers of each namespace every minute
LISTINGS_SECONDS = 400.0
GONE_SECONDS = 180.0
SMALL: dict[str, Any] = {"webhook": {"replicaCount": 1}, "api": {"replicaCount": 1}}
OTHER_MODEL = {**MANIFEST, "spec": {**MANIFEST["spec"], "model": "another"}}


@pytest.fixture
def first(node: Node) -> Iterator[Release]:
    """A release without anything installed yet; all of it is gone afterwards, the CRD too."""
    made = Release(node, "first", "agents-of-first")
    made.prepare()
    yield made
    remove(made)
    remove_crd(made)


@pytest.fixture
def second(node: Node, first: Release) -> Iterator[Release]:
    """Another one."""
    assert first.node is node
    made = Release(node, "second", "agents-of-second")
    made.prepare()
    yield made
    remove(made)


def remove(release: Release) -> None:
    """Uninstall a release, and delete its namespaces."""
    release.node.helm("uninstall", release.name, "-n", release.namespace, "--ignore-not-found", "--no-hooks")
    release.node.kubectl("delete", "namespace", release.served, release.namespace, f"--timeout={GONE_SECONDS:.0f}s")


def remove_crd(release: Release) -> None:
    """Delete the CRD, and edit it until it is gone: see ControlPlane.remove_crd."""
    release.node.kubectl("delete", "crd", CRD, "--ignore-not-found", "--wait=false")

    def gone() -> bool:
        release.node.kubectl("annotate", "crd", CRD, "--overwrite", "tests/looks=again", check=False)
        release.node.kubectl("annotate", "crd", CRD, "tests/looks-", check=False)
        return not release.node.kubectl("get", "crd", CRD, "--ignore-not-found", "-o", "name").stdout

    release.poll(gone, "the CRD is gone", GONE_SECONDS)


def figures(release: Release) -> dict[str, Any]:
    """What the status of the release's Provider says of its space."""
    found: dict[str, Any] = release.provider().get("status", {}).get("embedding", {})
    return found


def shown(release: Release, chunks: int) -> None:
    """Wait until the Provider is Ready and its status counts so many chunks."""
    release.poll(
        lambda: release.phase() == "Ready" and figures(release).get("chunks") == chunks, f"{chunks} chunks", 180.0
    )


def writers(release: Release) -> set[str]:
    """The installations that have written what the status of the release's Provider is now."""
    show = ("get", "provider", PROVIDER, "-n", release.served, "-o", "json", "--show-managed-fields")
    managers = json.loads(release.node.kubectl(*show).stdout)["metadata"]["managedFields"]
    return {each["manager"] for each in managers if each["manager"].startswith("memory-operator")}


def texts(release: Release, query: str) -> list[str]:
    """What a query finds with its vector too, best first."""
    found = release.call("POST", "/memory/query", {"query": query}).json()
    assert found["diagnostics"]["semantic_status"] == "ok"
    return [each["text"] for each in found["results"]]


def patches_at_rest(release: Release) -> int:
    """How many patches of Providers come while the operators list them some more times."""

    def counted(verb: str) -> int:
        return requests_in(release.node.kubectl("get", "--raw", "/metrics").stdout)[verb, "providers"]

    before, listings = counted("PATCH"), counted("LIST") + LISTINGS
    release.poll(lambda: counted("LIST") >= listings, f"{LISTINGS} listings more", LISTINGS_SECONDS)
    return counted("PATCH") - before


@pytest.mark.parametrize("overlapping", [False, True], ids=["separate namespaces", "overlapping namespaces"])
def test_two_releases_both_serve_and_neither_writes_over_what_the_other_says(
    first: Release, second: Release, overlapping: bool
) -> None:
    first.install(SMALL)
    first.declare()
    for number in range(2):
        first.add(f"memory {number} of the first")
    shown(first, 2)
    served = [second.served, first.served] if overlapping else [second.served]
    said = second.install({**SMALL, "providers": {"namespaces": served}})
    assert "NOTE: first/first is a release of memory-operator too." in said
    second.apply(OTHER_MODEL)
    second.add("the memory of the second")
    shown(second, 1)
    full = f"select count(*) = {len(served)} from memory_embedding_spaces where state = 'ready'"
    second.poll(lambda: second.psql(full) == "t", "a full space for each Provider that the second serves", 180.0)
    first.add("memory 2 of the first")
    shown(first, 3)
    assert patches_at_rest(first) == 0
    assert (figures(first)["chunks"], figures(second)["chunks"]) == (3, 1)
    assert set(texts(first, "memory of the first")) == {f"memory {number} of the first" for number in range(3)}
    assert texts(second, "memory") == ["the memory of the second"]
    assert [writers(release) for release in (first, second)] == [
        {"memory-operator:first/first"}, {"memory-operator:second/second"}
    ]  # fmt: skip
    log = second.node.kubectl("-n", second.namespace, "logs", f"deploy/{second.name}-operator").stdout
    assert (f"another installation of memory-operator serves namespace {first.served} too" in log) == overlapping


def test_beside_the_groups_own_crd_a_provider_is_served_and_each_reason_is_seen(first: Release) -> None:
    first.node.kubectl("apply", "-f", str(FOREIGN_CRD))
    assert "the CRD of Providers is not of memory-operator" in first.install(SMALL)
    first.apply()
    first.add("a memory beside another CRD")

    def annotated(key: str, value: Any) -> None:
        def there() -> bool:
            annotations = first.provider()["metadata"].get("annotations", {})
            return bool(json.loads(annotations.get(ANNOTATION, "{}")).get(key) == value)

        first.poll(there, f"{key} {value} in the annotation", 180.0)

    annotated("chunks", 1)
    annotated("phase", "Ready")
    first.condition("EmbeddingReady", "Ready")
    assert first.phase() == "", "the phase is the other controller's"
    assert texts(first, "a memory") == ["a memory beside another CRD"]
    first.patch({"credential": {"secretRef": {"name": "nowhere"}}})
    first.condition("EmbeddingCredentialResolved", "SecretMissing")
    annotated("reason", "SecretMissing")
    assert texts(first, "a memory") == ["a memory beside another CRD"]


@pytest.mark.parametrize("whose", ["the same release", "another release"])
def test_after_an_uninstall_the_next_release_brings_the_older_crd_up_to_date(
    whose: str, first: Release, second: Release, tmp_path: Path
) -> None:
    older = chart_of_before(tmp_path / "memory-operator")
    first.install(SMALL, older)
    first.declare()
    first.add("a memory from before")
    first.uninstall()
    assert crd_fields(first.node) == crd_fields_of(older)
    again = first if whose == "the same release" else second
    said = again.install({**SMALL, "providers": {"namespaces": [first.served, second.served]}})
    told = re.findall(r"^ +kubectl ((?:annotate|label) --overwrite crd .*)$", said, re.MULTILINE)
    assert bool(told) == (again is second)
    if told:
        for command in told:
            again.node.kubectl(*command.split())
        again.upgrade({**SMALL, "providers": {"namespaces": [first.served, second.served]}})
    assert crd_fields(first.node) == crd_fields_of(CHART) > crd_fields_of(older)
    first.edit(activation="Manual")
    assert first.provider()["spec"]["embedding"]["activation"] == "Manual"
    first.poll(lambda: current(first), "a status of the edited Provider", 180.0)
    if again is first:
        assert texts(first, "a memory") == ["a memory from before"]


def current(release: Release) -> bool:
    """Whether the Provider is Ready as it is now."""
    live = release.provider()
    status = live.get("status", {})
    return status.get("phase") == "Ready" and status.get("observedGeneration") == live["metadata"]["generation"]


def chart_of_before(folder: Path) -> Path:
    """The chart with a CRD that an earlier release might have had: a column and a field less."""
    shutil.copytree(CHART, folder)
    path = folder / "files" / "omnia.altairalabs.ai_providers.yaml"
    crd = yaml.safe_load(path.read_text())
    version = crd["spec"]["versions"][0]
    version["additionalPrinterColumns"].pop()
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["embedding"]["properties"][
        "activation"
    ]
    path.write_text(yaml.safe_dump(crd))
    return folder


def crd_fields_of(chart: Path) -> set[str]:
    """Of the CRD in a chart: see crd_fields."""
    return _fields(yaml.safe_load((chart / "files" / "omnia.altairalabs.ai_providers.yaml").read_text()))


def crd_fields(node: Node) -> set[str]:
    """Columns and fields of an embedding that the installed CRD has."""
    return _fields(node.get("crd", CRD))


def _fields(crd: dict[str, Any]) -> set[str]:
    version = crd["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return {each["name"] for each in version["additionalPrinterColumns"]} | set(spec["embedding"]["properties"])
