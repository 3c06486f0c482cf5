"""The node of the tests itself, and the images on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.images.build import OUTPUT
from e2e.images.recipes import RECIPES, Recipe, version
from e2e.node import keeper
from e2e.node.layout import Layout
from e2e.node.node import Node
from e2e.node.packages import UnfitMachineError, install, unfit
from e2e.release import Release
from fixtures.waiting import eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

TESTS = Path(__file__).resolve().parents[1]
END_SECONDS = 60.0
STARTED = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from cluster.harness import find_helm, find_node_programs
from e2e.node.node import Node
node = Node(find_node_programs(os.environ, str), find_helm(os.environ, str), os.environ)
node.start()
print(node.layout.folder, flush=True)
time.sleep(600)
"""

OURS = [recipe for recipe in RECIPES if not recipe.extra]


def test_of_a_node_whose_tests_were_killed_nothing_is_left(node: Node) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTED, str(TESTS)], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        assert folder.is_dir()
        inside = _processes_of(folder)
        assert inside
        other.send_signal(signal.SIGKILL)
    eventually(lambda: not folder.exists(), "the folder of the node is gone", END_SECONDS)
    eventually(lambda: not _processes_of(folder), "every process of the node has ended", END_SECONDS)
    assert not list(keeper.CGROUPS.glob(f"*/{Layout(folder).cgroup}"))
    assert node.kubectl("get", "--raw=/readyz").stdout == "ok"


def test_pods_reach_each_other_by_name_and_nothing_outside(node: Node) -> None:
    script = (
        "import socket; socket.create_connection(('kubernetes.default.svc', 443), 5); print('inside')\n"
        "try: socket.create_connection(('192.0.2.1', 80), 3)\n"
        "except OSError: print('nothing outside')"
    )
    said = _run_once(node, "memory-operator", "python3", "-c", script)
    assert said.split("\n")[:2] == ["inside", "nothing outside"]


def test_without_what_it_needs_the_machine_is_told_so(tmp_path: Path) -> None:
    assert unfit(os.environ) == ""
    install(os.environ, print)
    here = {"PATH": str(tmp_path)}
    assert unfit(here) == ""  # the folders of an administrator's programs are looked at too
    assert issubclass(UnfitMachineError, Exception)


@pytest.mark.parametrize("recipe", OURS, ids=lambda recipe: recipe.name)
def test_an_image_says_what_it_is_and_runs_as_nobody_in_particular(recipe: Recipe) -> None:
    config = _config(OUTPUT / f"{recipe.name}.tar")["config"]
    assert config["User"] == "65532:65532"
    assert config["Labels"]["org.opencontainers.image.version"] == version()
    assert config["Labels"]["memory-operator/sbom"] == "/opt/memory/sbom.cdx.json"
    assert config["Entrypoint"] == list(recipe.entrypoint)


@pytest.mark.parametrize("recipe", OURS, ids=lambda recipe: recipe.name)
def test_an_image_has_its_bill_of_materials_and_nothing_that_builds_or_installs(node: Node, recipe: Recipe) -> None:
    script = (
        "import importlib.util, json, shutil\n"
        "bill = json.load(open('/opt/memory/sbom.cdx.json'))\n"
        "tools = [tool for tool in ('pip', 'pip3', 'gcc', 'cc', 'make', 'git') if shutil.which(tool)]\n"
        "modules = [name for name in ('pip', 'setuptools', 'ensurepip') if importlib.util.find_spec(name)]\n"
        "print(json.dumps([bill['bomFormat'], len(bill['components']), tools, modules]))"
    )
    found = json.loads(_run_once(node, recipe.name, "/opt/memory/bin/python3", "-c", script))
    assert found[0] == "CycloneDX"
    assert found[1] > 1
    assert found[2:] == [[], []]


@pytest.mark.parametrize("component", ["worker", "operator", "postgresql"])
def test_the_first_process_of_a_container_ends_when_it_is_told_to(release: Release, component: str) -> None:
    release.delete_pod(component, grace_seconds=3_600)  # one that does not listen would live for an hour
    release.all_ready()


def _processes_of(folder: Path) -> list[int]:
    """Processes that have the folder in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if str(folder).encode() in command:
            found.append(int(process.name))
    return found


def _config(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        config = tar.extractfile(json.load(manifest)[0]["Config"])
        assert config is not None
        found: dict[str, Any] = json.load(config)
    return found


def _run_once(node: Node, image: str, *command: str) -> str:
    """What a command in a container of that image prints."""
    pod = f"once-{time.monotonic_ns()}"
    node.kubectl("run", pod, f"--image={image}:{version()}", "--restart=Never", "--command", "--", *command)
    node.kubectl("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    said = node.kubectl("logs", pod).stdout
    node.kubectl("delete", "pod", pod, "--wait=false")
    return said
