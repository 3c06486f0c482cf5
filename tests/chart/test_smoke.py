"""The script of `helm test`, as the image would run it, against a real API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fixtures.chart import CHART, OFFLINE, Chart, named
from fixtures.dev import Dev

SCRIPT = CHART / "files" / "smoke.py"


def run(server: str, token: Path) -> subprocess.CompletedProcess[str]:
    # The image has `memory` on its PATH; here it is beside this Python.
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.read_text(), server, str(token)],
        env={"PATH": str(Path(sys.executable).parent), "HOME": str(token.parent)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_memory_is_stored_found_and_erased_without_any_provider(dev: Dev, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("anything")
    dev.start()
    done = run(f"http://127.0.0.1:{dev.port}", token)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found 1, erased" in done.stdout
    assert dev.post("/memory/query", {"query": "helm test", "project": "helm-test"})["results"] == []


def test_the_pod_runs_that_script_with_its_own_token(chart: Chart) -> None:
    pod = named(chart.render(OFFLINE), "Pod", "memory-test")
    (container,) = pod["spec"]["containers"]
    assert container["command"] == [
        "python3",
        "-c",
        SCRIPT.read_text(),
        "http://memory-api.memory-system.svc:8080",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
    ]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
