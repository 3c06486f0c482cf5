"""`kubectl memory`: finds the Service, forwards a port, and calls as the kubeconfig's user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.memory_api import StubMemoryApi
from fixtures.store_state import space, state
from memory_operator.client.errors import MisuseError
from memory_operator.client.kubectl import Cluster, needs_a_server, split

SOURCE_ROOT = Path(__file__).parents[3] / "operator"
STATUS = "/v1/embeddings/status"

KUBECTL = """#!{python}
import json, pathlib, sys, time
words, folder = sys.argv[1:], pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
if words[0] == "port-forward":
    print("Forwarding from 127.0.0.1:{port} -> 8080", flush=True)
    time.sleep(600)
name = "all" if "--all-namespaces" in words else words[0]
answer = folder / f"{{name}}.json"
if not answer.exists():
    sys.exit("error: You must be logged in to the server")
print(answer.read_text())
"""
"""What kubectl answers, from files; a port is forwarded by there being something at it."""


def service(name: str = "memory-api", namespace: str = "memory-system") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ports": [{"port": 8080}]}}


class Kubectl:
    """A stand-in for kubectl, and `kubectl-memory` as it would call it."""

    def __init__(self, folder: Path, api: StubMemoryApi) -> None:
        self._folder = folder
        program = folder / "kubectl"
        port = api.url.rpartition(":")[2]
        program.write_text(KUBECTL.format(python=sys.executable, folder=str(folder), port=port))
        program.chmod(0o755)
        self.answers("get", {"items": [service()]})
        self.user({"token": "the-users-token"})

    def answers(self, what: str, document: Any) -> None:
        """What it says from now on to `get`, to `get --all-namespaces` (all), or to `config`."""
        (self._folder / f"{what}.json").write_text(json.dumps(document))

    def user(self, user: dict[str, Any]) -> None:
        """Who the kubeconfig says one is."""
        self.answers("config", {"users": [{"name": "me", "user": user}]})

    def calls(self) -> list[list[str]]:
        """The words of each call."""
        return [json.loads(line) for line in (self._folder / "calls").read_text().splitlines()]

    def memory(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`kubectl memory WORDS`."""
        path = f"{self._folder}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [sys.executable, "-c", "from memory_operator.client.kubectl import main; main()", *words],
            env={"PATH": path, "PYTHONPATH": str(SOURCE_ROOT), "LANG": "C.UTF-8", **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


@pytest.fixture
def kubectl(tmp_path: Path, memory_api: StubMemoryApi) -> Kubectl:
    memory_api.on("GET", STATUS, state(space(active=True)))
    return Kubectl(tmp_path, memory_api)


def test_a_command_goes_through_a_forwarded_port_as_the_kubeconfigs_user(
    kubectl: Kubectl, memory_api: StubMemoryApi
) -> None:
    done = kubectl.memory("-n", "memory-system", "--context", "prod", "status")
    assert done.returncode == 0, done.stderr
    assert "semantic search\tok" in done.stdout
    assert memory_api.received[0].headers["authorization"] == "Bearer the-users-token"
    looked, identity, forwards = kubectl.calls()
    assert looked[:2] == ["get", "services"]
    assert looked[4:6] == ["-n", "memory-system"]
    assert "--context" in identity
    assert forwards[:4] == ["port-forward", "-n", "memory-system", "service/memory-api"]
    assert forwards[4:] == [":8080", "--address", "127.0.0.1", "--context", "prod"]


def test_a_credential_plugin_is_called_as_kubectl_calls_it(kubectl: Kubectl, memory_api: StubMemoryApi) -> None:
    program = (
        "import json, os; i = json.loads(os.environ['KUBERNETES_EXEC_INFO']); print(json.dumps({'status': {'token':"
    )
    program += " i['kind'] + '-' + os.environ['MINE']}}))"
    plugin = {"command": sys.executable, "args": ["-c", program], "env": [{"name": "MINE", "value": "1"}]}
    kubectl.user({"exec": {"apiVersion": "client.authentication.k8s.io/v1", **plugin}})
    assert kubectl.memory("status").returncode == 0
    assert memory_api.received[0].headers["authorization"] == "Bearer ExecCredential-1"


def test_a_user_with_a_certificate_alone_is_told_how_to_get_a_token(
    kubectl: Kubectl, memory_api: StubMemoryApi
) -> None:
    kubectl.user({"client-certificate-data": "x"})
    done = kubectl.memory("status")
    assert done.returncode == 1
    assert "kubectl create token" in done.stderr
    assert kubectl.memory("status", MEMORY_TOKEN="mine").returncode == 0
    assert memory_api.received[0].headers["authorization"] == "Bearer mine"


def test_no_token_goes_to_a_service_of_a_namespace_that_nobody_named(
    kubectl: Kubectl, memory_api: StubMemoryApi
) -> None:
    kubectl.answers("get", {"items": []})
    kubectl.answers("all", {"items": [service(namespace="memory-system")]})
    done = kubectl.memory("status")
    assert done.returncode == 1
    assert "there is one in memory-system: kubectl memory -n memory-system" in done.stderr
    assert memory_api.received == []
    kubectl.answers("get", {"items": [service("a"), service("b")]})
    done = kubectl.memory("status")
    assert done.returncode == 2
    assert "several memory APIs in this namespace: a, b" in done.stderr


def test_what_kubectl_says_is_said(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "get.json").unlink()
    done = kubectl.memory("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["detail"] == "kubectl: error: You must be logged in to the server"
    (tmp_path / "kubectl").unlink()
    missing = kubectl.memory("status", PATH=str(tmp_path))
    assert missing.returncode == 1
    assert "kubectl was not found" in missing.stderr


def test_help_needs_no_cluster(kubectl: Kubectl, tmp_path: Path) -> None:
    done = kubectl.memory("doctor", "--help")
    assert done.returncode == 0
    assert "kubectl memory doctor" in done.stdout
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(
    ("words", "cluster", "rest"),
    [
        ("-n a list -n 5", Cluster("a"), "list -n 5"),
        ("--namespace=a --context=b list", Cluster("a", "b"), "list"),
        ("--json --kubeconfig f list", Cluster(kubeconfig="f"), "--json list"),
        ("--token-file f -n a list", Cluster("a"), "--token-file f list"),
        ("list --context b", Cluster(), "list --context b"),
    ],
)
def test_options_of_the_cluster_stand_before_the_command(words: str, cluster: Cluster, rest: str) -> None:
    assert split(words.split()) == (cluster, rest.split())


def test_an_option_without_its_value_is_a_mistake() -> None:
    with pytest.raises(MisuseError, match="-n needs a value"):
        split(["-n"])


@pytest.mark.parametrize(
    ("words", "needed"),
    [("status", True), ("", False), ("--version", False), ("status -h", False), ("--server http://x status", False)],
)
def test_a_server_is_looked_for_where_one_is_called(words: str, needed: bool) -> None:
    assert needs_a_server(words.split()) is needed
