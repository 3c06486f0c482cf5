"""Fixtures for all tests, and which tests must share a process when several run side by side."""

from __future__ import annotations

import gc

import pytest

pytest_plugins = [
    "fixtures.postgres",
    "fixtures.engine",
    "fixtures.memories",
    "fixtures.dev",
    "fixtures.manifests",
    "fixtures.api",
    "fixtures.control_plane",
    "fixtures.kube",
    "fixtures.processes",
    "fixtures.chart",
    "fixtures.judges",
    "fixtures.node",
    "fixtures.release_before",
]


@pytest.hookimpl(tryfirst=True)  # xdist writes the groups into the names of tests in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put into one group, for `--dist loadgroup`, what shares something that is costly to make.

    All else is handed out test by test. Each process has a database server of its own, from the first test on that
    needs one; an API server is too costly for that: there are two, since half of the tests break theirs.
    """
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Look for garbage no more among what thousands of tests were collected into, and all that they import."""
    gc.collect()
    gc.freeze()


def _group(item: pytest.Item) -> str | None:
    if not isinstance(item, pytest.Function):
        return None
    if "node" in item.fixturenames:
        return "node"
    if "findings" in item.fixturenames:
        return "judges"
    if "control_plane" in item.fixturenames:
        return "control plane of operators" if "served" in item.fixturenames else "control plane"
    definitions = item._fixtureinfo.name2fixturedefs.values()
    if any(each.scope == "module" for found in definitions for each in found):
        return item.location[0]
    return None
