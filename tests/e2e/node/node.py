"""A node that runs, and what a test does with it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster.harness import GO_SETTINGS, ControlPlaneError, NodePrograms, cache_root
from e2e.images.archive import ImageConfig, write_archive, write_layer
from e2e.node import first, keeper
from e2e.node.inside import Inside
from e2e.node.layout import DNS_SERVICE, DOMAIN, NODE_NAME, VOLUME_SIZE, VOLUMES, Layout
from e2e.node.packages import search_path
from e2e.node.settings import DNS_IMAGE, PAUSE_IMAGE, write_settings

START_SECONDS = 120.0
STOP_SECONDS = 300.0
COMMAND_SECONDS = 300.0
REQUEST_SECONDS = 30.0
POLL_SECONDS = 0.1

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What an HTTP server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Node:
    """A node of its own. `start` it, `stop` it; it ends with this process too, however that ends."""

    def __init__(self, programs: NodePrograms, helm: Path, environment: Mapping[str, str]) -> None:
        """Nothing is started."""
        self.programs = programs
        self._helm = helm
        self.environment = dict(environment) | {"PATH": search_path(environment)}
        nodes = cache_root(environment) / "nodes"
        self.layout = Layout(nodes / f"node-{os.getpid()}-{time.monotonic_ns() % 1_000_000:06}")
        self._keeper: subprocess.Popen[bytes] | None = None
        self._inside: Inside | None = None
        self._pid = 0

    def start(self) -> None:
        """Bring the node up until it is Ready and knows names. Raises ControlPlaneError."""
        _remove_what_was_left(self.layout.folder.parent)
        self.layout.make()
        write_settings(self.layout, self.programs, self._inner_environment())
        command = [sys.executable, "-I", "-S", keeper.__file__, str(self.layout.folder), self.layout.cgroup]
        command += [sys.executable, "-I", "-S", first.__file__, str(self.layout.plan)]
        self._keeper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment, start_new_session=True
        )
        assert self._keeper.stdout is not None
        with self._keeper.stdout as stdout:
            line = stdout.readline()
        if not line:
            raise self._failed("the node's first process cannot be started")
        self._pid = int(line)
        keeper_cgroups(self.layout.cgroup)
        self._inside = Inside(self._pid)
        self.until(self._containerd_answers, START_SECONDS, "containerd answers")
        for path in _addon_images(self.programs):
            self.load(path)
        self.until(lambda: self.kubectl("get", "--raw=/readyz", check=False).returncode == 0, START_SECONDS, "API")
        self.kubectl("apply", "-f", "-", input=self._addons())
        self.until(lambda: self.kubectl("get", f"node/{NODE_NAME}", check=False).returncode == 0, START_SECONDS, "node")
        self.kubectl("wait", "--for=condition=Ready", f"node/{NODE_NAME}", f"--timeout={START_SECONDS:.0f}s")
        self.kubectl("-n", "kube-system", "rollout", "status", "deploy/coredns", f"--timeout={START_SECONDS:.0f}s")

    def stop(self) -> None:
        """End everything at once, and remove all traces. A second call does nothing."""
        if self._inside is not None:
            self._inside.close()
            self._inside = None
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(STOP_SECONDS)
            self._keeper = None

    @property
    def pid(self) -> int:
        """The first process inside; `enter_network` takes it."""
        return self._pid

    def load(self, archive: Path) -> None:
        """Import an image."""
        self.run("ctr", "--address", str(self.layout.socket), "--namespace", "k8s.io", "images", "import", str(archive))

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002  (as subprocess.run calls it)
        check: bool = True,
        seconds: float = COMMAND_SECONDS,
    ) -> Done:
        """Run kubectl as the administrator. Raises ControlPlaneError when it fails and `check` is true."""
        return self.run(str(self.programs.kubectl), *arguments, input=input, check=check, seconds=seconds)

    def helm(self, *arguments: str, check: bool = True, seconds: float = COMMAND_SECONDS) -> Done:
        """Run helm as the administrator. Raises ControlPlaneError when it fails and `check` is true."""
        return self.run(str(self._helm), *arguments, check=check, seconds=seconds)

    def run(
        self,
        *command: str,
        input: str | None = None,  # noqa: A002
        check: bool = True,
        seconds: float = COMMAND_SECONDS,
    ) -> Done:
        """Run a program of the machine with the network of the node and KUBECONFIG as the administrator."""
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self._pid}/ns/net", "--", *command],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env=self._inner_environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-4000:]
            raise ControlPlaneError(f"{' '.join(command)[:500]} exits {done.returncode}: {said}")
        return done

    def get(self, *arguments: str) -> Any:
        """`kubectl get` as objects. Raises ControlPlaneError."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def request(
        self,
        method: str,
        address: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> HttpAnswer:
        """Send one HTTP request to a pod or Service, `address` being IP:PORT. Raises OSError when nobody answers."""
        assert self._inside is not None
        return self._inside.run(http_request, method, address, path, body, headers or {}, seconds)

    def service(self, namespace: str, name: str) -> str:
        """IP:PORT of the first port of a Service."""
        spec = self.get("service", name, "-n", namespace)["spec"]
        return f"{spec['clusterIP']}:{spec['ports'][0]['port']}"

    def until(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until it is true. Raises ControlPlaneError with the ends of the logs when it does not get so in time."""
        deadline = time.monotonic() + seconds
        while not true():
            if self._keeper is None or self._keeper.poll() is not None:
                raise self._failed("the node has ended")
            if time.monotonic() > deadline:
                raise self._failed(f"not within {seconds:.0f} s: {what}")
            time.sleep(POLL_SECONDS)

    def last_lines(self, program: str, count: int = 10) -> str:
        """The end of a program's log."""
        path = self.layout.logs / f"{program}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if path.exists() else ""

    def _inner_environment(self) -> dict[str, str]:
        """Of the machine's environment nothing that leads out of the node."""
        kept = {key: value for key, value in self.environment.items() if not key.lower().endswith("_proxy")}
        folder = str(self.layout.folder)
        ours = {
            "KUBECONFIG": str(self.layout.kubeconfig),
            "KUBECACHEDIR": f"{folder}/kubectl-cache",
            "HELM_CACHE_HOME": f"{folder}/helm-cache",
            "HELM_CONFIG_HOME": f"{folder}/helm-config",
            "HELM_DATA_HOME": f"{folder}/helm-data",
        }
        return kept | GO_SETTINGS | ours

    def _containerd_answers(self) -> bool:
        if not self.layout.socket.exists():
            return False
        return self.run("ctr", "--address", str(self.layout.socket), "version", check=False, seconds=10).returncode == 0

    def _addons(self) -> str:
        manifests = Path(__file__).with_name("addons.yaml").read_text()
        for name, value in (("DOMAIN", DOMAIN), ("DNS_IMAGE", DNS_IMAGE), ("DNS_SERVICE", DNS_SERVICE)):
            manifests = manifests.replace(name, value)
        return "\n---\n".join([manifests, *map(self._volume, range(VOLUMES))])

    def _volume(self, number: int) -> str:
        here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}]}
        spec = {
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "standard",
            "local": {"path": str(self.layout.volumes / str(number))},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
        }
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"volume-{number}"},
            "spec": spec,
        }
        return yaml.safe_dump(volume)

    def _failed(self, why: str) -> ControlPlaneError:
        names: Sequence[str] = ("first", "containerd", "etcd", "apiserver", "kubelet", "proxy")
        told = [f"{name}:\n{lines}" for name in names if (lines := self.last_lines(name, 5))]
        return ControlPlaneError("\n".join([why, *told]))


def http_request(
    method: str, address: str, path: str, body: Any, headers: Mapping[str, str], seconds: float
) -> HttpAnswer:
    """One request over a connection of its own. Raises OSError, http.client.HTTPException."""
    sent = dict(headers)
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection(address, timeout=seconds)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = connection.getresponse()
        return HttpAnswer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def keeper_cgroups(name: str) -> None:
    """Make the cgroup of all pods, which the kubelet wants in every hierarchy."""
    top = keeper.CGROUPS
    if (top / "cgroup.controllers").exists():
        (top / name).mkdir(exist_ok=True)
        return
    for hierarchy in top.iterdir():
        if hierarchy.is_dir() and hierarchy.name != "unified" and (hierarchy / "cgroup.procs").exists():
            (hierarchy / name).mkdir(exist_ok=True)
    cpuset = top / "cpuset"
    for each in ("cpuset.cpus", "cpuset.mems"):  # empty ones take no process
        if (cpuset / name / each).exists():
            (cpuset / name / each).write_text((cpuset / each).read_text())


def _addon_images(programs: NodePrograms) -> list[Path]:
    """Archives of the pause container and of CoreDNS; both are one static program."""
    archives = []
    for name, program in ((PAUSE_IMAGE, programs.pause), (DNS_IMAGE, programs.coredns)):
        path = program.with_name(f"{program.name}-image.tar")
        if not path.exists():
            layer = write_layer(program.with_name(f"{program.name}-layer.tar"), (program, ""))
            write_archive(path, name, [layer], ImageConfig([f"/{program.name}"]))
        archives.append(path)
    return archives


def _remove_what_was_left(nodes: Path) -> None:
    """Of nodes whose keeper was killed: the process in their name is gone."""
    nodes.mkdir(parents=True, exist_ok=True)
    for folder in nodes.glob("node-*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            keeper.remove_cgroups(Layout(folder).cgroup)
            shutil.rmtree(folder, ignore_errors=True)
