"""One program that runs under a guard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE

from cluster.harness import guard
from cluster.harness.errors import ControlPlaneError

STOP_SECONDS = guard.TERMINATE_SECONDS + 10.0
"""How long stopping may take at most: asking, killing, reaping."""


GO_SETTINGS = {"GOGC": "400", "GOMEMLIMIT": "512MiB"}
"""Environment of programs in Go: below this limit they look for garbage seldom, which takes a fourth of their CPU."""


class GuardedProcess:
    """A program that ends when this object stops it, or when this process ends in whatever way."""

    def __init__(self, name: str, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(log), *command],
            stdin=PIPE,
            stdout=PIPE,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C is for the tests, which stop us in order
        )
        assert self._guard.stdout is not None
        with self._guard.stdout as stdout:
            line = stdout.readline()
        if not line:
            self.stop()
            raise ControlPlaneError(f"{name} cannot be started: {command[0]}")
        self.pid = int(line)
        """The program's own process id, not its guard's."""

    @property
    def running(self) -> bool:
        """Whether the program has not ended; a frozen one runs."""
        return self._guard.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program. Raises ControlPlaneError when it has ended."""
        if not self.running:
            raise ControlPlaneError(f"{self.name} has ended. Its last lines:\n{self.last_lines()}")
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End the program: by SIGTERM, then by SIGKILL. A second call does nothing."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(STOP_SECONDS)

    def last_lines(self, count: int = 15) -> str:
        """The end of the program's log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
