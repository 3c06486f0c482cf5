"""Whatever is taken away from a release in the middle of a fill and under load: nobody who tries twice notices."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from e2e.images.recipes import version
from e2e.load import Report, people
from e2e.release import NAME, NAMESPACE, SERVED, Release

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

MEMORIES = 240
BEFORE = "what there was before"
"""In the text of each of them: their fill is slow for as long as something is taken away, and nothing else is."""
SLOW = {"containing": BEFORE, "latency_ms": 3000}
GAP_SECONDS = 30.0
_models = itertools.count(1)


@pytest.fixture(scope="module")
def filled(release: Release) -> Iterator[Release]:
    """A few hundred memories, and a Provider that asks for one at a time."""
    release.declare()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(release.add, (f"{BEFORE}, number {number}" for number in range(MEMORIES))))
    release.patch({"embedding": {"batchSize": 1}})
    yield release
    release.vendor(faults=[])


@contextmanager
def fill_under_load(release: Release, tries: int = 2) -> Iterator[Report]:
    """A fill runs, and people use the API; at the end the fill is done, and everything that was promised is there."""
    model = f"model-{next(_models)}"
    release.vendor(faults=[SLOW])
    release.patch({"model": model})
    release.poll(lambda: release.phase() == "Reembedding", "phase Reembedding")
    with people(release.node.pid, release.address(), release.token("agent"), tries=tries) as report:
        release.poll(lambda: len(report.stored) > 4, "people use the API")
        yield report
        good = len(report.stored)
        release.poll(lambda: len(report.stored) > good + 8, "people still use the API")
        assert release.phase() == "Reembedding"
        release.vendor(faults=[])
    dimensions = release.provider()["spec"]["embedding"]["dimensions"]
    release.settled(dimensions, model, seconds=180.0)
    assert not report.wrong
    for memory, text in report.stored.items():
        answer = release.call("GET", f"/memory/{memory}")
        assert (answer.status, answer.json().get("text")) == (200, text)


@pytest.mark.parametrize("component", ["api", "worker", "operator", "webhook"])
def test_a_deleted_pod_is_missed_by_nobody_who_tries_twice(filled: Release, component: str) -> None:
    with fill_under_load(filled) as report:
        filled.delete_pod(component)
        filled.all_ready()
    assert not report.given_up, report.given_up[:3]


def test_with_one_replica_of_the_api_the_gap_is_short(filled: Release) -> None:
    filled.node.kubectl("-n", NAMESPACE, "scale", f"deploy/{NAME}-api", "--replicas=1")
    filled.poll(lambda: len(filled.pods("api", going=True)) == 1, "one pod of the API")
    try:
        with fill_under_load(filled) as report:
            filled.delete_pod("api")
            filled.all_ready()
        assert report.gap() <= GAP_SECONDS
    finally:
        filled.node.kubectl("-n", NAMESPACE, "scale", f"deploy/{NAME}-api", "--replicas=2")
        filled.all_ready()


def test_without_its_database_the_api_says_503_until_it_is_back_and_nothing_promised_is_lost(filled: Release) -> None:
    with fill_under_load(filled) as report:
        filled.delete_pod("postgresql")
        filled.all_ready()
    assert any(": 503 " in attempt.failure for attempt in report.attempts)
    assert not [failure for failure in report.given_up if ": 503 " not in failure and ": 0 " not in failure]


def test_an_upgrade_in_the_middle_of_a_fill_is_missed_by_nobody_who_tries_twice(filled: Release) -> None:
    with fill_under_load(filled) as report:
        changed = {"podAnnotations": {"tests/changed": str(time.time_ns())}}
        filled.upgrade(dict.fromkeys(("operator", "api", "worker", "webhook"), changed))
    assert not report.given_up, report.given_up[:3]


def test_a_release_with_another_migration_can_be_rolled_back_in_the_middle_of_a_fill(filled: Release) -> None:
    with fill_under_load(filled) as report:
        filled.upgrade({"image": {"repository": "memory-operator-next", "tag": version()}})
    assert not report.given_up, report.given_up[:3]
    assert filled.psql("select to_regclass('memory_of_the_next_release') is not null") == "t"
    with fill_under_load(filled) as report:
        filled.rollback()
    assert not report.given_up, report.given_up[:3]
    images = filled.node.get("deploy", f"{NAME}-operator", "-n", NAMESPACE)["spec"]["template"]["spec"]["containers"]
    assert images[0]["image"] == f"memory-operator:{version()}"


def test_uninstalled_and_installed_again_everything_is_found(filled: Release) -> None:
    kept = filled.add("what was there before the release went")
    filled.uninstall()
    filled.poll(lambda: not filled.node.get("pods", "-n", NAMESPACE)["items"], "no pods", 90.0)
    filled.node.kubectl("get", "crd", "providers.omnia.altairalabs.ai")
    assert filled.provider()["spec"]["role"] == "embedding"
    secrets = filled.node.get("secrets", "-n", NAMESPACE)["items"]
    assert f"{NAME}-master-key" in {secret["metadata"]["name"] for secret in secrets}
    assert filled.node.get("pvc", "-n", NAMESPACE)["items"]

    filled.install()
    answer = filled.call("GET", f"/memory/{kept}")
    assert answer.json()["text"] == "what was there before the release went"
    found = filled.call("POST", "/memory/query", {"query": "what was there before the release went"}).json()
    assert found["diagnostics"]["semantic_status"] == "ok"
    assert found["results"][0]["id"] == kept
    filled.poll(lambda: filled.listed()[4] == "true", f"the Provider of {SERVED} is active")
