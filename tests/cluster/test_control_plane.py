"""The API server that the cluster tests run against, and how it is found."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from cluster.harness import ControlPlane, ControlPlaneError, Programs, ProgramsMissingError, find_programs, version
from cluster.harness.process import GuardedProcess
from fixtures.waiting import WAIT_SECONDS, eventually

HERE = Path(__file__).parent

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cups.tests.example}
spec:
  group: tests.example
  names: {kind: Cup, listKind: CupList, plural: cups, singular: cup}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              x-kubernetes-validations: [{rule: "self.full <= self.size", message: it would spill}]
              properties: {size: {type: integer}, full: {type: integer}}
"""


def cup(namespace: str, full: int) -> str:
    spec = {"size": 3, "full": full}
    metadata = {"name": "cup", "namespace": namespace}
    return json.dumps({"apiVersion": "tests.example/v1", "kind": "Cup", "metadata": metadata, "spec": spec})


def provider(namespace: str, **spec: object) -> str:
    metadata = {"name": "memory-embeddings", "namespace": namespace}
    manifest = {"apiVersion": "omnia.altairalabs.ai/v1alpha1", "kind": "Provider", "metadata": metadata, "spec": spec}
    return json.dumps(manifest)


# What it is ---------------------------------------------------------------------------------------------------


def test_a_token_of_a_service_account_is_reviewed_as_that_service_account(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "agent", "-n", namespace)
    token = control_plane.service_account_token(namespace, "agent")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = control_plane.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).body["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:agent"
    kubeconfig = control_plane.service_account_kubeconfig(namespace, "agent")
    denied = control_plane.kubectl("get", "secrets", check=False, kubeconfig=kubeconfig)
    assert "Forbidden" in denied.stderr
    assert f'in the namespace "{namespace}"' in denied.stderr
    assert kubeconfig.stat().st_mode & 0o077 == 0


def test_a_crd_with_a_rule_is_enforced(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.install_crd(CRD)
    control_plane.kubectl("apply", "-f", "-", input=cup(namespace, full=2))
    spilt = control_plane.kubectl("apply", "-f", "-", input=cup(namespace, full=4), check=False)
    assert spilt.returncode != 0
    assert "it would spill" in spilt.stderr


def test_a_crd_is_replaced_in_place_and_its_objects_stay(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.install_crd(CRD)
    control_plane.kubectl("apply", "-f", "-", input=cup(namespace, full=2))
    control_plane.install_crd(CRD.replace("full: {type: integer}", "full: {type: integer}, colour: {type: string}"))
    control_plane.kubectl("patch", "cup", "cup", "-n", namespace, "--type=merge", "-p", '{"spec": {"colour": "blue"}}')
    stored = json.loads(control_plane.kubectl("get", "cup", "cup", "-n", namespace, "-o", "json").stdout)
    assert stored["spec"] == {"size": 3, "full": 2, "colour": "blue"}
    control_plane.install_crd(CRD)


def test_a_crd_is_removed_with_its_objects_right_after_an_edit_and_once_is_enough(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.install_crd(CRD)
    control_plane.kubectl("apply", "-f", "-", input=cup(namespace, full=2))
    control_plane.install_crd(CRD.replace("full: {type: integer}", "full: {type: integer}, colour: {type: string}"))
    name = yaml.safe_load(CRD)["metadata"]["name"]
    control_plane.remove_crd(name)
    assert control_plane.kubectl("get", "crd", name, check=False).returncode != 0
    control_plane.remove_crd(name)
    control_plane.install_crd(CRD)
    assert not json.loads(control_plane.kubectl("get", "cups", "-n", namespace, "-o", "json").stdout)["items"]


def test_the_least_rbac_holds_as_soon_as_it_is_applied(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.apply_rbac(namespace, everywhere=True, foreign=True)
    path = f"/api/v1/namespaces/{namespace}/secrets"
    token = control_plane.service_account_token(namespace, "memory-worker")
    assert control_plane.request("GET", f"{path}/absent", token=token).status == 404
    assert control_plane.request("GET", path, token=token).status == 403


def test_its_certificate_satisfies_strict_verification(control_plane: ControlPlane) -> None:
    # Python 3.13 verifies strictly unless told otherwise.
    context = ssl.create_default_context(cafile=str(control_plane.address.certificate))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", control_plane.address.port), timeout=WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        assert encrypted.version() is not None


def test_a_deleted_namespace_leaves_nothing_behind(control_plane: ControlPlane) -> None:
    control_plane.install_crd(CRD)
    control_plane.create_namespace("left-behind")
    control_plane.kubectl("apply", "-f", "-", input=cup("left-behind", full=1))
    control_plane.kubectl("create", "serviceaccount", "agent", "-n", "left-behind")
    control_plane.delete_namespace("left-behind")
    assert control_plane.request("GET", "/api/v1/namespaces/left-behind").status == 404
    assert control_plane.request("GET", "/apis/tests.example/v1/cups").body["items"] == []
    accounts = control_plane.request("GET", "/api/v1/serviceaccounts").body["items"]
    assert "left-behind" not in {each["metadata"]["namespace"] for each in accounts}


def test_an_object_that_does_not_go_with_its_namespace_is_named(control_plane: ControlPlane) -> None:
    control_plane.create_namespace("stays")
    control_plane.kubectl("create", "configmap", "pinned", "-n", "stays")
    pin = ("patch", "configmap", "pinned", "-n", "stays", "--type=merge", "-p")
    control_plane.kubectl(*pin, '{"metadata": {"finalizers": ["tests.example/pin"]}}')
    with pytest.raises(ControlPlaneError, match="configmaps: pinned"):
        control_plane.delete_namespace("stays")
    control_plane.kubectl(*pin, '{"metadata": {"finalizers": null}}')
    control_plane.delete_namespace("stays")


# The group's own CRD ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("foreign_provider_crd")
def test_the_groups_own_crd_has_no_room_for_our_fields_and_our_phases(
    control_plane: ControlPlane, namespace: str
) -> None:
    embedding = {"dimensions": 768, "dimensionChange": "Shadow"}
    manifest = provider(namespace, type="ollama", role="embedding", model="nomic-embed-text", embedding=embedding)
    control_plane.kubectl("apply", "--validate=false", "-f", "-", input=manifest)
    stored = json.loads(control_plane.kubectl("get", "prov", "-n", namespace, "-o", "json").stdout)["items"][0]
    assert stored["spec"]["embedding"] == {"dimensions": 768}
    patch = ("patch", "prov", "memory-embeddings", "-n", namespace, "--subresource=status", "--type=merge", "-p")
    assert "Unsupported value" in control_plane.kubectl(*patch, '{"status": {"phase": "Held"}}', check=False).stderr
    control_plane.kubectl(*patch, '{"status": {"phase": "Ready", "embedding": {"vectors": 5}}}')
    stored = json.loads(control_plane.kubectl("get", "prov", "-n", namespace, "-o", "json").stdout)["items"][0]
    assert stored["status"] == {"phase": "Ready"}


@pytest.mark.usefixtures("foreign_provider_crd")
@pytest.mark.parametrize(
    ("spec", "refused"),
    [
        ({"type": "openai"}, "model is required"),
        ({"type": "openai", "model": ""}, "model is required"),
        ({"type": "mock", "embedding": {"dimensions": 64}}, "only for role embedding"),
        ({"type": "mock", "role": "embedding", "embedding": {"dimensions": 4097}}, "4096"),
        ({"type": "mock", "role": "embedding", "embedding": {"distance": "l1"}}, "Unsupported value"),
        ({"type": "mock", "credential": {"envVar": "A", "filePath": "/a"}}, "at most one"),
        ({"type": "claude", "model": "m", "platform": {"type": "bedrock"}}, "given together"),
        ({"type": "openai_compatible", "model": "m"}, "Unsupported value"),
        ({"type": "mock"}, None),
        ({"type": "voyageai", "role": "embedding", "model": "voyage-3.5", "credential": {"envVar": "A"}}, None),
        (
            {
                "type": "claude",
                "model": "m",
                "platform": {"type": "bedrock", "region": "r"},
                "auth": {"type": "workloadIdentity"},
                "headers": {"x-team": "a"},
                "defaults": {"temperature": "0.2", "maxTokens": 5},
                "pricing": {"inputCostPer1K": "0.003"},
                "capabilities": ["text"],
            },
            None,
        ),
    ],
)
def test_the_groups_own_crd_has_the_groups_rules(
    control_plane: ControlPlane, spec: dict[str, object], refused: str | None
) -> None:
    path = "/apis/omnia.altairalabs.ai/v1alpha1/namespaces/default/providers?dryRun=All&fieldValidation=Strict"
    reply = control_plane.request("POST", path, json.loads(provider("default", **spec)))
    assert reply.status == (422 if refused else 201), reply.body
    assert refused is None or refused in reply.body["message"]


# Faults -------------------------------------------------------------------------------------------------------


def test_a_restart_keeps_objects_tokens_and_address(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "configmap", "kept", "--from-literal=a=b", "-n", namespace)
    control_plane.kubectl("create", "serviceaccount", "agent", "-n", namespace)
    token = control_plane.service_account_token(namespace, "agent")
    url = control_plane.url
    control_plane.restart()
    assert control_plane.url == url
    assert control_plane.kubectl("get", "configmap", "kept", "-n", namespace, "-o=jsonpath={.data.a}").stdout == "b"
    assert control_plane.request("GET", f"/api/v1/namespaces/{namespace}/pods", token=token).status == 403


def test_it_is_refused_when_down_and_ready_again_after(control_plane: ControlPlane) -> None:
    with control_plane.down(), pytest.raises(ConnectionRefusedError):
        control_plane.request("GET", "/readyz")
    assert control_plane.request("GET", "/readyz").ok


def test_it_does_not_answer_when_paused_and_does_after(control_plane: ControlPlane) -> None:
    with control_plane.paused(), pytest.raises(TimeoutError):
        control_plane.address.request("GET", "/readyz", token="any", seconds=0.5)
    assert control_plane.request("GET", "/readyz").ok


def test_it_comes_back_after_a_kill(control_plane: ControlPlane) -> None:
    control_plane.kill()
    assert control_plane.request("GET", "/readyz").ok


def test_a_guarded_program_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    # As a test run that is killed: nothing of it gets to stop anything.
    script = (
        "import os, signal, sys; from pathlib import Path; from cluster.harness.process import GuardedProcess;"
        "p = GuardedProcess('sleep', ['sleep', '600'], Path(sys.argv[1]), os.environ);"
        "print(p.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pid = int(killed.stdout)
    eventually(lambda: not _alive(pid), "the program has ended")


def test_a_frozen_program_is_stopped_too(tmp_path: Path) -> None:
    process = GuardedProcess("sleep", ["sleep", "600"], tmp_path / "log", os.environ)
    process.send(signal.SIGSTOP)
    process.stop()
    assert not process.running
    assert not _alive(process.pid)
    with pytest.raises(ControlPlaneError, match="sleep has ended"):
        process.send(signal.SIGCONT)


def test_a_program_that_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match="cannot be started: /nowhere/etcd"):
        GuardedProcess("etcd", ["/nowhere/etcd"], tmp_path / "log", os.environ)


def test_servers_that_do_not_come_up_say_what_they_said(programs: Programs, tmp_path: Path) -> None:
    broken = tmp_path / "etcd"
    broken.write_text("#!/bin/sh\necho no space left\nexit 3\n")
    broken.chmod(0o755)
    folder = tmp_path / "servers"
    folder.mkdir()
    servers = ControlPlane(Programs(broken, programs.kube_apiserver, programs.kubectl), folder, os.environ)
    try:
        with pytest.raises(ControlPlaneError, match=r"etcd has ended.*\nno space left"):
            servers.start()
    finally:
        servers.stop()


def _alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# How it is found ----------------------------------------------------------------------------------------------


def test_without_go_and_without_programs_the_message_names_the_cause_and_two_ways_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "build.py")],
        env={"PATH": "", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"the tests need a real etcd {version()}" in done.stderr
    assert "`go`, which would build it, is not on PATH" in done.stderr
    assert "install Go 1.24 or later" in done.stderr
    assert "set KUBEBUILDER_ASSETS" in done.stderr
    assert "Traceback" not in done.stderr


def test_assets_that_lack_a_program_are_named_and_nothing_is_built(tmp_path: Path) -> None:
    _program(tmp_path / "etcd")
    with pytest.raises(ProgramsMissingError, match=r"KUBEBUILDER_ASSETS is .* no program kube-apiserver in it"):
        find_programs({"KUBEBUILDER_ASSETS": str(tmp_path), "PATH": os.environ["PATH"]}, pytest.fail)


def test_assets_are_used_as_they_are(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        _program(tmp_path / name)
    found = find_programs({"KUBEBUILDER_ASSETS": str(tmp_path)}, pytest.fail)
    assert found == Programs(tmp_path / "etcd", tmp_path / "kube-apiserver", tmp_path / "kubectl")


def test_what_is_in_the_cache_is_not_built_again_and_kubectl_is_taken_from_path(tmp_path: Path) -> None:
    cache = tmp_path / "memory-operator" / "controlplane" / version()
    for name in ("etcd", "kube-apiserver"):
        _program(cache / name)
    _program(tmp_path / "bin" / "kubectl")
    found = find_programs({"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}, pytest.fail)
    assert found == Programs(cache / "etcd", cache / "kube-apiserver", tmp_path / "bin" / "kubectl")


def test_a_build_that_fails_tells_what_go_said_and_leaves_nothing(tmp_path: Path) -> None:
    _program(tmp_path / "bin" / "go", "echo 'dial tcp: no route to host' >&2; exit 1")
    lines: list[str] = []
    with pytest.raises(ProgramsMissingError, match=r"build` of etcd failed[\s\S]*no route to host"):
        find_programs({"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}, lines.append)
    assert [line.split(" into ")[0] for line in lines] == [f"building etcd of Kubernetes {version()}"]
    assert list((tmp_path / "memory-operator" / "controlplane" / version()).iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "memory-operator").write_text("a file where a folder is needed")
    _program(tmp_path / "bin" / "go")
    with pytest.raises(ProgramsMissingError, match=r"cannot be kept in the cache .*(Not a directory|File exists)"):
        find_programs({"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}, pytest.fail)


def test_two_processes_that_need_the_programs_build_each_once(tmp_path: Path) -> None:
    # A stand-in for go: it takes a moment, notes that it ran, and writes the file that -o names.
    _program(
        tmp_path / "bin" / "go",
        f'echo run >> {tmp_path}/runs; sleep 0.3; while [ "$1" != "-o" ]; do shift; done; cp /bin/true "$2"',
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    script = (
        f"import os, sys; sys.path.insert(0, {str(HERE.parent)!r})\n"
        "from cluster.harness.programs import find_helm, find_programs\n"
        "find_programs(os.environ, print), find_helm(os.environ, print)"
    )
    command = [sys.executable, "-c", script]
    with ExitStack() as started:
        both = [
            started.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        outputs = [each.communicate(timeout=60)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0]
    built = sum(output.count("built etcd") + output.count("built kube-apiserver") for output in outputs)
    names = {"etcd", "kube-apiserver", "kubectl", "helm"}
    runs = len((tmp_path / "runs").read_text().splitlines())
    assert built == 2
    assert runs == len(names & {path.name for path in (tmp_path / "memory-operator").rglob("*") if path.is_file()})


def test_the_module_replaces_every_staging_module_with_the_release_that_it_requires() -> None:
    text = (HERE / "controlplane" / "go.mod").read_text()
    replaces = [line.split() for line in text.splitlines() if "=>" in line]
    assert len(replaces) == 31
    assert all(left == right for left, _, right, _ in replaces)
    assert {release for *_, release in replaces} == {version().replace("v1.", "v0.", 1)}


def _program(path: Path, script: str = "exit 0") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
