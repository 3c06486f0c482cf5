"""The rendered chart, applied by other means than Helm over a release that is in use: nothing restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from e2e.release import NAMESPACE, Release

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

COMPONENTS = ("operator", "api", "worker", "webhook", "postgresql")
APPLY = ("apply", "--server-side", "--force-conflicts")
"""Fields that Helm owns become ours too."""


def pods(release: Release) -> dict[str, set[str]]:
    """Names of the pods, by component."""
    return {component: set(release.pods(component)) for component in COMPONENTS}


def test_server_side_apply_and_kustomize_change_no_pod_and_helm_goes_on(release: Release, tmp_path: Path) -> None:
    release.upgrade()  # whatever an earlier test set is taken back
    release.all_ready()
    before = pods(release)
    rendered = release.rendered()
    applied = release.node.kubectl(*APPLY, "-f", "-", input=rendered)
    assert len(applied.stdout.splitlines()) == len([each for each in yaml.safe_load_all(rendered) if each])

    (tmp_path / "release.yaml").write_text(rendered)
    kustomization = {"resources": ["release.yaml"], "labels": [{"pairs": {"team": "theirs"}}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    release.node.kubectl(*APPLY, "-k", str(tmp_path))
    api = release.node.get("deployment", "memory-api", "-n", NAMESPACE)
    assert api["metadata"]["labels"]["team"] == "theirs"

    release.upgrade()
    release.all_ready()
    assert pods(release) == before
    added = release.add("what the rendered chart must not lose")
    assert added
