"""Memory Layer's guide on a real API server: its file imported, two Providers applied, its commands as written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.dev import free_port
from fixtures.kube import Namespace
from fixtures.processes import Processes
from fixtures.waiting import eventually
from vendor import StubVendor

MEMORY = Path(sys.executable).with_name("memory")
KEYS = {"OPENAI_API_KEY": "sk-proj-one", "VOYAGE_API_KEY": "pa-two"}
CONFIG = """\
[embeddings]
active = "voyage-code"

[[embeddings.backends]]
name = "openai-3-small"
provider = "openai"
base_url = "OPENAI"
api_key_env = "OPENAI_API_KEY"
model = "text-embedding-3-small"
batch_size = 16

[[embeddings.backends]]
name = "voyage-code"
provider = "voyage"
base_url = "VOYAGE"
api_key_env = "VOYAGE_API_KEY"
model = "voyage-code-3"
batch_size = 16
"""
CALLER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: steers, namespace: SERVED}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: steers, namespace: SERVED}
rules:
  - apiGroups: [omnia.altairalabs.ai]
    resources: [providers/activate, providers/jobs, memories]
    verbs: [create]
  - {apiGroups: [omnia.altairalabs.ai], resources: [providers, memories], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: steers, namespace: SERVED}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: steers}
subjects: [{kind: ServiceAccount, name: steers, namespace: SERVED}]
"""


@pytest.fixture
def vendors() -> Iterator[tuple[StubVendor, StubVendor]]:
    with (
        StubVendor(models={"text-embedding-3-small": 1536}, api_key=KEYS["OPENAI_API_KEY"]) as openai,
        StubVendor(models={"voyage-code-3": 1024}, api_key=KEYS["VOYAGE_API_KEY"]) as voyage,
    ):
        yield openai, voyage


class Guide:
    """The processes, and the commands of a person with a token."""

    def __init__(self, processes: Processes, served: Namespace) -> None:
        self.served = served
        served.apply(CALLER)
        operator, api = (str(served.kubeconfig_of(f"memory-{name}")) for name in ("operator", "api"))
        port = free_port()
        processes.start("run", "--kubeconfig", operator, "--namespaces", served.name)
        running = processes.start("api", "--kubeconfig", api, "--host", "127.0.0.1", "--port", str(port))
        running.until("/readyz", 200)
        self.environment = {
            **os.environ,
            "MEMORY_API": f"http://127.0.0.1:{port}",
            "MEMORY_TOKEN": served.token_of("steers"),
        }

    def memory(self, line: str, code: int = 0) -> str:
        words = line.split()
        assert words.pop(0) == "memory"
        done = subprocess.run(
            [str(MEMORY), *words], env=self.environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == code, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def marks(self) -> dict[str, str]:
        rows = [line.split("\t") for line in self.memory("memory embeddings list").splitlines() if "\t" in line]
        at = rows[0].index("PROVIDER")
        return {row[at].rpartition("/")[2]: row[0] for row in rows[1:]}

    def filled(self) -> bool:
        spaces = json.loads(self.memory("memory embeddings list --json"))["spaces"]
        return all(space["coverage"] == 1 and space["state"] == "ready" for space in spaces)


def test_two_providers_by_the_commands_of_the_guide(
    processes: Processes, served: Namespace, vendors: tuple[StubVendor, StubVendor], tmp_path: Path
) -> None:
    openai, voyage = vendors
    config = tmp_path / "memory-layer.toml"
    config.write_text(CONFIG.replace('"OPENAI"', f'"{openai.base_url}"').replace('"VOYAGE"', f'"{voyage.root_url}"'))
    guide = Guide(processes, served)
    for variable, key in KEYS.items():
        name = variable.lower().replace("_", "-")
        served.kubectl("create", "secret", "generic", name, f"--from-literal={variable}={key}")
    guide.memory(f"memory embeddings import {config} --to-manifests {tmp_path}/manifests --namespace {served.name}")

    served.apply((tmp_path / "manifests/openai-3-small.yaml").read_text())
    eventually(lambda: guide.marks() == {"openai-3-small": "*"}, "one backend, without a fault")
    for text in ("The tide is highest at noon.", "A loaf rises overnight.", "The climber checks every knot."):
        guide.memory(f"memory add --project my-project {text.replace(' ', '-')}")
    guide.memory("memory embeddings reindex --project my-project --wait")

    served.apply((tmp_path / "manifests/voyage-code.yaml").read_text())
    eventually(lambda: guide.marks() == {"openai-3-small": "*", "voyage-code": ""}, "both listed")
    guide.memory("memory embeddings reembed --project my-project --wait")
    eventually(guide.filled, "every vector in both spaces")
    guide.memory("memory embeddings activate voyage-code")
    assert guide.marks() == {"openai-3-small": "", "voyage-code": "*"}
    listed = guide.memory("memory embeddings list --project my-project").splitlines()
    assert [line.split("\t")[-2:] for line in listed[1:3]] == [["3", "3"], ["3", "3"]]
    guide.memory("memory embeddings reindex --project my-project --backend voyage-code --wait")

    served.kubectl("delete", "provider", "openai-3-small")
    eventually(lambda: "orphaned" in guide.memory("memory embeddings list"), "the space of nobody")
    guide.memory("memory embeddings prune --project my-project --dry-run")
    guide.memory("memory embeddings prune --project my-project --yes")
    assert guide.marks() == {"voyage-code": "*"}
    assert set(openai.keys) == {KEYS["OPENAI_API_KEY"]}
    assert set(voyage.keys) == {KEYS["VOYAGE_API_KEY"]}
