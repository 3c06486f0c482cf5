"""What processes have used, read from /proc; and processes of ours started as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from fixtures.dev import free_port
from fixtures.engine import key_text
from fixtures.plain_http import get

PROGRAM = Path(sys.executable).with_name("memory-operator")
START_SECONDS = 60.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# Names an API server that is not there: it is asked for Secrets only, and the benches have none.
_KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: none, user: {token: none}}]
contexts: [{name: none, context: {cluster: none, user: none, namespace: default}}]
current-context: none
"""


class OwnProcess:
    """A `memory-operator` command as a process of its own, killed at the end."""

    def __init__(self, folder: Path, dsn: str, *words: str) -> None:
        """`folder` gets its master key, kubeconfig and log."""
        self._folder = folder
        self._words = words
        self.probe_port = free_port()
        """Where its probes answer."""
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "master.key").write_text(key_text())
        (folder / "kubeconfig").write_text(_KUBECONFIG)
        # Nothing else of the environment: no proxy stands between the process and the stub vendor.
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self._environment = {
            **kept,
            "MEMORY_DATABASE_URL": dsn,
            "MEMORY_MASTER_KEY_FILE": str(folder / "master.key"),
        }
        if words[0] != "worker":  # which needs a cluster for Secrets only
            self._environment["MEMORY_KUBECONFIG"] = str(folder / "kubeconfig")

    def __enter__(self) -> Self:
        probes = ("--probe-host", "127.0.0.1", "--probe-port", str(self.probe_port))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM), *self._words, *probes], env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{self._words[0]} did not start: {self.log.read_text()}"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> Path:
        """What it said."""
        return self._folder / f"{self._words[0]}.log"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9, the real one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)

    def metric(self, name: str) -> float | None:
        """A metric without labels; None where it is not there."""
        said = get(self.probe_port, "/metrics")
        assert said is not None, "the probe port does not answer"
        values = [line.split()[1] for line in said[1].splitlines() if line.startswith(f"{name} ")]
        return float(values[0]) if values else None

    def _ready(self) -> bool:
        said = get(self.probe_port, "/readyz", 5)
        return said is not None and said[0] == 200


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, its ended children's included."""
    return float(sum(_stat(pid)[11:15])) / _TICKS_PER_SECOND


def tree_cpu_seconds(pid: int) -> float:
    """The same of a process and all its children, those that still run too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = cpu_seconds(pid)
    for child in children:
        try:
            total += cpu_seconds(int(child))
        except FileNotFoundError:
            continue  # it has just ended, and is counted with its parent from now on
    return total


def _stat(pid: int) -> list[Any]:
    """Numbers of /proc/PID/stat after the name, which may hold blanks: state is the first."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [fields[0], *map(int, fields[1:])]


def peak_memory_mb(pid: int) -> float:
    """Most resident memory that a process ever had, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no VmHWM of process {pid}")
