"""Finds kube-apiserver, etcd and kubectl, or builds them from source, once a machine; and the rest of a node.

In this order: the folder KUBEBUILDER_ASSETS, where it is set; for kubectl, PATH; the cache,
`$XDG_CACHE_HOME` (else `~/.cache`)`/memory-operator/controlplane/VERSION/`, which a build with Go fills.
What a node needs beside Kubernetes is kept in `…/memory-operator/addons/DIGEST/`, helm and kube-score in
`…/memory-operator/helm/VERSION/` and `…/kube-score/VERSION/`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster.harness.errors import ProgramsMissingError

MODULE = Path(__file__).resolve().parents[1] / "controlplane"
"""The Go module that pins what is built."""
ADDONS = Path(__file__).resolve().parents[2] / "e2e" / "node" / "addons"
"""The Go module that pins what only a node needs: its names, its network, its pause container."""
HELM = Path(__file__).resolve().parents[2] / "chart" / "helm"
"""The Go module that pins helm."""
JUDGES = HELM.with_name("judges")
"""The Go module that pins kube-score."""

BUILD_SECONDS = 3600.0
"""How long one build may take, and how long another process's build is waited for."""
_LOCK_POLL_SECONDS = 0.5

_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
}
_ADDONS = {
    "coredns": "./dns",
    "pause": "./pause",
    "bridge": "github.com/containernetworking/plugins/plugins/main/bridge",
    "host-local": "github.com/containernetworking/plugins/plugins/ipam/host-local",
    "loopback": "github.com/containernetworking/plugins/plugins/main/loopback",
}
_OTHERS = {"helm": "helm.sh/helm/v3/cmd/helm", "kube-score": "github.com/zegl/kube-score/cmd/kube-score"}
_EXPECTED = {
    "etcd": "a minute",
    "helm": "2 minutes",
    "kube-apiserver": "4 to 8 minutes",
    "kube-controller-manager": "2 minutes",
}
_REQUIRED = ("etcd", "kube-apiserver")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Programs:
    """Absolute paths of the programs."""

    etcd: Path
    kube_apiserver: Path
    kubectl: Path


@dataclass(frozen=True, slots=True)
class NodePrograms(Programs):
    """Absolute paths of the programs of a whole node; `network` is the folder of the CNI plugins."""

    controller_manager: Path
    scheduler: Path
    kubelet: Path
    proxy: Path
    coredns: Path
    pause: Path
    network: Path


@cache
def version() -> str:
    """The release of Kubernetes that is built, such as v1.34.4; the module's go.mod says which."""
    return _required(MODULE, "k8s.io/kubernetes")


def _required(module: Path, package: str) -> str:
    text = (module / "go.mod").read_text()
    match = re.search(rf"^(?:require)?\s*{re.escape(package)} (v\S+)$", text, re.MULTILINE)
    if match is None:
        raise ProgramsMissingError(f"{module / 'go.mod'} requires no version of {package}")
    return match[1]


def find_programs(environment: Mapping[str, str], say: Say) -> Programs:
    """The programs; `say` gets a line when a build begins and one when it is done.

    Reads KUBEBUILDER_ASSETS, PATH, XDG_CACHE_HOME and HOME of `environment`. Raises ProgramsMissingError.
    """
    assets = environment.get("KUBEBUILDER_ASSETS")
    if assets:
        return _from_assets(Path(assets).absolute(), environment, say)
    folder = cache_folder(environment)
    etcd, apiserver = (_cached(folder, name, environment, say) for name in _REQUIRED)
    return Programs(etcd, apiserver, _kubectl(environment, say))


def find_node_programs(environment: Mapping[str, str], say: Say) -> NodePrograms:
    """The programs of a whole node, built where they are not there yet. Raises ProgramsMissingError."""
    first = find_programs(environment, say)
    folder = cache_folder(environment)
    manager, scheduler, kubelet, proxy = (
        _cached(folder, name, environment, say)
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    )
    addons = cache_root(environment) / "addons" / _addons_digest()
    coredns, pause, *network = (_cached(addons, name, environment, say) for name in _ADDONS)
    control_plane = (first.etcd, first.kube_apiserver, first.kubectl)
    return NodePrograms(*control_plane, manager, scheduler, kubelet, proxy, coredns, pause, network[0].parent)


def find_helm(environment: Mapping[str, str], say: Say) -> Path:
    """helm, of the version that its module names; built where it is not there yet. Raises ProgramsMissingError."""
    return _cached(cache_root(environment) / "helm" / _required(HELM, "helm.sh/helm/v3"), "helm", environment, say)


def find_kube_score(environment: Mapping[str, str], say: Say) -> Path:
    """kube-score, in the same way. Raises ProgramsMissingError."""
    version = _required(JUDGES, "github.com/zegl/kube-score")
    return _cached(cache_root(environment) / "kube-score" / version, "kube-score", environment, say)


def cache_root(environment: Mapping[str, str]) -> Path:
    """Where everything is kept that is made once a machine; it need not exist."""
    home = environment.get("HOME") or str(Path.home())
    base = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    return Path(base).absolute() / "memory-operator"


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where programs of this version are kept; it need not exist."""
    return cache_root(environment) / "controlplane" / version()


@cache
def _addons_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([ADDONS / "go.mod", *ADDONS.rglob("*.go")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _from_assets(assets: Path, environment: Mapping[str, str], say: Say) -> Programs:
    missing = [name for name in _REQUIRED if not _runs(assets / name)]
    if missing:
        raise ProgramsMissingError(
            f"KUBEBUILDER_ASSETS is {assets}, and there is no program {' and no '.join(missing)} in it;"
            " put both there, or unset it to have them built with Go"
        )
    kubectl = assets / "kubectl"
    return Programs(
        assets / "etcd", assets / "kube-apiserver", kubectl if _runs(kubectl) else _kubectl(environment, say)
    )


def _kubectl(environment: Mapping[str, str], say: Say) -> Path:
    found = shutil.which("kubectl", path=environment.get("PATH", ""))
    if found is not None:
        return Path(found).absolute()
    return _cached(cache_folder(environment), "kubectl", environment, say)


def _runs(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK)


def _cached(folder: Path, name: str, environment: Mapping[str, str], say: Say) -> Path:
    program = folder / name
    if _runs(program):
        return program
    go = shutil.which("go", path=environment.get("PATH", ""))
    if go is None:
        raise ProgramsMissingError(
            f"the tests need a real {name} {version()}: none is in {folder}, and `go`, which would build it,"
            f" is not on PATH. {_ways_out()}"
        )
    try:
        with locked(folder.with_name(f"{folder.name}.lock"), name, say):
            if not _runs(program):
                _build(Path(go), name, program, environment, say)
    except OSError as error:
        raise ProgramsMissingError(f"{name} cannot be kept in the cache {folder}: {error}. {_ways_out()}") from error
    return program


def _ways_out() -> str:
    return (
        "Either install Go 1.24 or later, or set KUBEBUILDER_ASSETS to a folder with kube-apiserver and etcd"
        " (and kubectl, unless it is on PATH)."
    )


def _build(go: Path, name: str, program: Path, environment: Mapping[str, str], say: Say) -> None:
    modules = {"helm": HELM, "kube-score": JUDGES} | dict.fromkeys(_ADDONS, ADDONS)
    module = modules.get(name, MODULE)
    what = name if name in _OTHERS else f"{name} of Kubernetes {version()}"
    say(
        f"building {what} into {program.parent},"
        f" once on this machine, for about {_EXPECTED.get(name, 'half a minute')} ..."
    )
    began = time.monotonic()
    program.parent.mkdir(parents=True, exist_ok=True)
    for left in program.parent.glob("build-*"):  # of a build that was killed: we hold the lock
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix="build-", dir=program.parent) as scratch:
        made = Path(scratch) / name
        package = (_PACKAGES | _ADDONS | _OTHERS)[name]
        command = [str(go), "build", "-trimpath", "-ldflags", _linker_flags(), "-o", str(made), package]
        make(
            ["nice", *command] if shutil.which("nice", path=environment.get("PATH", "")) else command,
            _go_environment(environment),
            folder=module,
            late=f"{name} was not built in {BUILD_SECONDS:.0f} s. {_ways_out()}",
            failed=f"`{go} build` of {name} failed. {_ways_out()}",
        )
        made.replace(program)  # one step, so that nobody ever runs half a program
    say(f"built {what} in {time.monotonic() - began:.0f} s")


def make(
    command: Sequence[str], environment: Mapping[str, str], *, late: str, failed: str, folder: Path | None = None
) -> None:
    """Run what makes a program. Raises ProgramsMissingError: what is said where it is late, or where it failed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramsMissingError(late) from error
    if done.returncode != 0:
        last = "\n".join(done.stderr.splitlines()[-15:])
        raise ProgramsMissingError(f"{failed} It said:\n{last}")


def _linker_flags() -> str:
    major, minor = version().removeprefix("v").split(".")[:2]
    stamps = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    set_at_build = [f"-X {package}.{key}={value}" for package in packages for key, value in stamps.items()]
    # What helm template takes a cluster for that it cannot ask.
    for package in ("chartutil", "lint/rules"):
        helm = f"helm.sh/helm/v3/pkg/{package}"
        set_at_build += [f"-X {helm}.k8sVersionMajor={major}", f"-X {helm}.k8sVersionMinor={minor}"]
    set_at_build.append(f"-X helm.sh/helm/v3/internal/version.version={_required(HELM, 'helm.sh/helm/v3')}")
    return " ".join(["-s", "-w", *set_at_build])


def _go_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """A person's own Go settings, but for those that would build something else or elsewhere."""
    kept = {key: value for key, value in environment.items() if key not in {"GOOS", "GOARCH", "GO111MODULE"}}
    return kept | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOWORK": "off"}


@contextmanager
def locked(path: Path, name: str, say: Say) -> Iterator[None]:
    """One build at a time, across processes: the lock ends with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUILD_SECONDS
    told = False
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ProgramsMissingError(f"another process holds {path} for too long; end it") from error
            if not told:
                say(f"waiting for another process, which builds programs for the tests; {name} is needed next ...")
                told = True
            time.sleep(_LOCK_POLL_SECONDS)
        yield
