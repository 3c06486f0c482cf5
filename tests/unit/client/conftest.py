"""How the tests run the command line: in this process without a terminal, or in another one with a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fixtures.memory_api import StubMemoryApi, memory_api
from fixtures.waiting import WAIT_SECONDS, eventually
from memory_operator.client.main import app

__all__ = ["memory_api"]

Run = Callable[..., Result]

SOURCE_ROOT = Path(__file__).parents[3] / "operator"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMORY_API", "MEMORY_TOKEN", "NO_COLOR", "FORCE_COLOR", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(memory_api: StubMemoryApi) -> Run:
    """Run `memory ARGUMENTS…` against the stub; stdin and stdout are pipes."""

    def invoke(*arguments: str, stdin: str | bytes | None = None, env: Mapping[str, str] | None = None) -> Result:
        result = CliRunner().invoke(
            app, list(arguments), input=stdin, env={"MEMORY_API": memory_api.url, **(env or {})}
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


PROGRAM = """
import signal
from memory_operator.client.main import main

signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""As a shell on a terminal starts it: what runs the tests may ignore Ctrl-C, and a child would inherit that."""


@dataclass
class Terminal:
    """`memory` in a process of its own, with a terminal for stdin, stdout and stderr."""

    process: subprocess.Popen[bytes]
    screen: int
    shown: str = ""

    def expect(self, text: str) -> None:
        """Wait until this has been printed."""
        eventually(lambda: text in self.shown or not self._read(), f"{text!r} on the screen")
        assert text in self.shown, f"ended without {text!r}; shown: {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def ends(self) -> int:
        """Wait for the end; the exit code."""
        eventually(lambda: not self._read(), "the end of the command")
        return self.process.wait(WAIT_SECONDS)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.screen], [], [], 0.1)
        if not ready:
            return True
        try:
            chunk = os.read(self.screen, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += chunk.decode()
        return bool(chunk)


@pytest.fixture
def terminal(memory_api: StubMemoryApi) -> Iterator[Callable[..., Terminal]]:
    """Start `memory ARGUMENTS…` against the stub on a terminal."""
    started: list[Terminal] = []

    def start(*arguments: str, columns: int = 100, env: Mapping[str, str] | None = None) -> Terminal:
        screen, end = pty.openpty()
        termios.tcsetwinsize(end, (50, columns))
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(SOURCE_ROOT),
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "MEMORY_API": memory_api.url,
                **(env or {}),
            },
        )
        os.close(end)
        started.append(Terminal(process, screen))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        os.close(one.screen)
