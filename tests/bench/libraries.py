"""Peers that are libraries: each in an environment of its own that is made here, at pinned versions."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from memory_operator.dev.postgres.server import RunningPostgres

TITLES = {"langgraph": "LangGraph", "mem0": "mem0"}
"""Those that there are, and what each is called."""

SEARCH, FILTERED, PUT = "search", "filtered", "put"
_FOLDER = Path(__file__).with_name("peers")
_DATABASE = "peer"
_SECONDS = 3_600
MOST_PUTS_PER_SECOND = 1_000
_QUIET = {"MEM0_TELEMETRY": "False"}
"""Nothing that a peer does by itself goes to a network."""


def python(name: str) -> Path:
    """The Python that has a peer; installed at the first use, and whenever its pins change."""
    requirements = _FOLDER / f"{name}.txt"
    pins = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "memory-operator" / "peers" / f"{name}-{pins}"
    found = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {TITLES[name]} into {folder} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--require-hashes", "-r", str(requirements)], check=True)
        (folder / "complete").touch()
    return found


@dataclass(frozen=True, slots=True)
class Seen:
    """How fast a peer did something."""

    rate: float
    """Times a second."""
    p50: float
    """Milliseconds."""
    p99: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts, each with the vector that we have for it, and types of memories."""

    texts: Sequence[str]
    types: Sequence[str]
    vectors: np.ndarray


@dataclass(frozen=True, slots=True)
class Tasks:
    """What a peer does, with how many clients, each for how long."""

    work: Sequence[str]
    clients: Sequence[int]
    seconds: float
    vendor_ms: float
    """How long each call of its embedder takes."""
    type: str
    """That FILTERED looks for."""


def measure(
    server: RunningPostgres, name: str, folder: Path, rows: dict[str, Rows], tasks: Tasks
) -> dict[str, dict[int, Seen]]:
    """What a peer does on a database of its own, by task and number of clients.

    `rows`: those that are stored before as `texts`, those that are looked for as `questions`, those to store as `new`.
    """
    for kind, given in rows.items():
        (folder / f"{kind}.json").write_text(json.dumps({"texts": list(given.texts), "types": list(given.types)}))
        np.save(folder / f"{kind}.npy", given.vectors.astype(np.float32))
    url = urlsplit(server.administrator_dsn)
    wanted = {
        "server": urlunsplit(url._replace(path="/postgres")),
        "database": _DATABASE,
        "folder": str(folder),
        "work": list(tasks.work),
        "clients": list(tasks.clients),
        "seconds": tasks.seconds,
        "vendor_ms": tasks.vendor_ms,
        "type": tasks.type,
    }
    done = subprocess.run(
        [str(python(name)), str(_FOLDER / f"{name}_peer.py")],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **_QUIET},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.rpartition("FOUND ")[2].splitlines()[0])
    return {
        work: {int(clients): Seen(**seen) for clients, seen in by_clients.items()} for work, by_clients in found.items()
    }
