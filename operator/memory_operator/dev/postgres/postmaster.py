"""A PostgreSQL server seen from outside: its pid file, its process, its port, its log."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from memory_operator.dev.folder import give_to_owner_of
from memory_operator.errors import StoreUnavailable
from memory_operator.logs import get_logger

log = get_logger(__name__)

HOST = "127.0.0.1"
LOG_BYTES = 10 * 1024 * 1024
"""Size from which on the log is set aside at the next start."""
_STOPPING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PostmasterFile:
    """`postmaster.pid`: which process has the folder, on which port, and how far it is."""

    pid: int
    port: int
    status: str
    """starting, stopping, ready or standby; empty while the file is still being written."""

    @staticmethod
    def read(data: Path) -> PostmasterFile | None:
        """The file as it is now; None when there is none or its first lines are not there yet."""
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        try:
            return PostmasterFile(int(lines[0]), int(lines[3]), lines[7].strip() if len(lines) > 7 else "")
        except (IndexError, ValueError):
            return None


def live_postmaster(data: Path, deadline: float) -> PostmasterFile | None:
    """The server that has this folder and can be adopted. A pid file that no server stands behind is removed.

    PostgreSQL takes any living process with the recorded id for the old server. After a reboot, and in a container
    always, that id may be ours or a neighbour's. A server that is being stopped is waited for.
    """
    path = data / "postmaster.pid"
    stopping_until = min(deadline, time.monotonic() + _STOPPING_SECONDS)
    while path.exists():
        pid = _recorded_pid(path)
        if pid is None or not postmaster_is(pid, data):
            if path.exists():
                log.info("removing the stale pid file %s: no PostgreSQL server runs", path)
                path.unlink(missing_ok=True)
            return None
        state = PostmasterFile.read(data)
        if state is not None and state.status and state.status != "stopping":
            return state
        if time.monotonic() > stopping_until:
            raise StoreUnavailable(
                f"the PostgreSQL server of {data} (process {pid}) neither stops nor comes up",
                hint=f"end it: kill -QUIT {pid}",
            )
        time.sleep(0.05)
    return None


def postmaster_is(pid: int, data: Path) -> bool:
    """Whether this process is the server of this folder, by its command line."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    if Path(arguments[0]).name != "postgres" or "-D" not in arguments[:-1]:
        return False
    return Path(arguments[arguments.index("-D") + 1]).resolve() == data.resolve()


def _recorded_pid(path: Path) -> int | None:
    try:
        return int(path.read_text().splitlines()[0])
    except (OSError, IndexError, ValueError):
        return None


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As PostgreSQL does it: connections of the last server that linger must not cost us the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of the loopback address that nobody listens on at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def open_log(path: Path) -> BinaryIO:
    """Open the server's log to append to it, readable by its owner alone; a long one is set aside first."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    give_to_owner_of(path.parent, descriptor)
    file = os.fdopen(descriptor, "ab")
    file.seek(0, os.SEEK_END)
    return file


def still_attached(output: str) -> bool:
    """Whether the server refused because processes of a killed one still hold its memory."""
    return "pre-existing shared memory block" in output


def bind_problem(output: str) -> bool:
    """Whether the server refused because its port was taken."""
    return "could not bind" in output or "could not create any TCP/IP sockets" in output


def last_fatal(output: str) -> str:
    """The reason the server gave for ending, without its timestamps."""
    found = re.findall(r"(?:FATAL|PANIC|ERROR):\s*(.+)", output)
    if found:
        return str(found[-1])
    return (output.strip().splitlines() or ["it gave no reason"])[-1]
