"""LangGraph's PostgresStore as a peer: in an environment of its own that is made here, at pinned versions."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from memory_operator.dev.postgres.server import RunningPostgres

NAME = "langgraph"
REQUIREMENTS = Path(__file__).with_name("peers") / "langgraph.txt"
PROGRAM = Path(__file__).with_name("peers") / "langgraph_search.py"
DATABASE = "peer"
SECONDS = 1_800


def python() -> Path:
    """The Python that has the peer; installed at the first use, and whenever its pins change."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "memory-operator" / "peers" / f"{NAME}-{pins}"
    found = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--require-hashes", "-r", str(REQUIREMENTS)], check=True)
        (folder / "complete").touch()
    return found


class Stocked:
    """What the peer is given: texts and questions, each with the vector that we have for it."""

    def __init__(self, folder: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
        self._folder = folder
        self._write("texts", texts, vectors)

    def ask_for(self, questions: Sequence[str], vectors: np.ndarray) -> None:
        """What is looked for, in turn."""
        self._write("questions", questions, vectors)

    def search(self, server: RunningPostgres, clients: Sequence[int], seconds: float) -> dict[int, dict[str, Any]]:
        """Searches a second, and their p50 in milliseconds, by the number of clients."""
        url = urlsplit(server.administrator_dsn)
        given = {
            "server": urlunsplit(url._replace(path="/postgres")),
            "database": DATABASE,
            "folder": str(self._folder),
            "clients": list(clients),
            "seconds": seconds,
        }
        done = subprocess.run(
            [str(python()), str(PROGRAM)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return {int(number): seen for number, seen in found.items()}

    def _write(self, name: str, texts: Sequence[str], vectors: np.ndarray) -> None:
        (self._folder / f"{name}.json").write_text(json.dumps(list(texts)))
        np.save(self._folder / f"{name}.npy", vectors.astype(np.float32))
