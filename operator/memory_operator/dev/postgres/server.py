"""An embedded PostgreSQL with pgvector: one server in one folder, reached over TCP on this machine.

    FOLDER/postgres/        the database (and, in `dev-passwords`, the passwords of its two users)
    FOLDER/postgres.log     the server's log
    FOLDER/database-url     the URL for psql, mode 0600; the port in it is kept across restarts while it is free

The server outlives a process that is killed; the next one adopts it. All functions block, each for a limited time.
Whoever starts one holds the folder's lock (`dev/folder.py`): two at once in one folder are not provided for.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from memory_operator.dev.folder import prepare_folder, write_private
from memory_operator.dev.postgres.binaries import DEFAULT_MAJOR, Binaries, binaries_for
from memory_operator.dev.postgres.initdb import ADMINISTRATOR, server_command
from memory_operator.dev.postgres.new_database import (
    DATABASE,
    USER,
    initialise,
    make_database,
    read_passwords,
    remove_leftovers,
)
from memory_operator.dev.postgres.postmaster import (
    HOST,
    PostmasterFile,
    bind_problem,
    free_port,
    last_fatal,
    live_postmaster,
    open_log,
    port_is_free,
    postmaster_is,
    still_attached,
)
from memory_operator.dev.postgres.user import ServerUser, server_user
from memory_operator.errors import ConfigurationError, StoreUnavailable
from memory_operator.logs import get_logger

log = get_logger(__name__)

BIND_SECONDS = 60.0
START_SECONDS = 600.0
"""Includes recovery after a crash, which replays up to max_wal_size of log."""
ORPHANS_SECONDS = 60.0
"""How long the processes of a killed server may take to notice it."""
STOP_SECONDS = 60
_POLL_SECONDS = 0.02
_PORT_TRIES = 5

SETTINGS: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "2GB",
    "log_line_prefix": "%m [%p] %d ",
    "cluster_name": "memory-operator",
}
"""Settings of this server, over those that every server of ours has."""


@dataclass(frozen=True, slots=True)
class RunningPostgres:
    """A server that answers."""

    dsn: str = field(repr=False)
    """URL of the database `memory` for its owner, who is no superuser; the extension vector is in it."""
    administrator_dsn: str = field(repr=False)
    """URL of the database `postgres` for the superuser."""
    port: int
    pid: int
    adopted: bool
    """The server was already running: a process of ours was killed and left it."""
    major: int
    folder: Path
    url_file: Path
    log_file: Path


@dataclass(frozen=True, slots=True)
class _Tools:
    """The programs that fit the database, and the user that runs them."""

    programs: Binaries
    user: ServerUser


class EmbeddedPostgres:
    """The server of one folder. `settings` go over SETTINGS; a `port` that is given is the only one tried."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        major: int = DEFAULT_MAJOR,
    ) -> None:
        self._given_folder = folder
        self._settings = {**SETTINGS, **(settings or {})}
        self._port = port
        self._major = major
        self._process: subprocess.Popen[bytes] | None = None
        self._tools: _Tools | None = None
        self._pid: int | None = None
        self._log_offset = 0

    @property
    def folder(self) -> Path:
        """Real path of the folder, once it exists."""
        return self._given_folder.resolve()

    @property
    def data(self) -> Path:
        """Real path of the database's own folder."""
        return (self.folder / "postgres").resolve()

    @property
    def alive(self) -> bool:
        """Whether the server's process is there."""
        if self._process is not None and self._process.poll() is not None:
            return False
        return self._pid is not None and postmaster_is(self._pid, self.data)

    def start(self) -> RunningPostgres:
        """Make the database when there is none, adopt a live server or start one, and wait until it answers.

        Raises ConfigurationError (a folder, a user or a port is in the way; the server refuses to start) and
        StoreUnavailable (it does not answer in time).
        """
        prepare_folder(self._given_folder)
        programs = binaries_for(self.data, default=self._major)
        tools = _Tools(programs, server_user(self.data, programs))
        self._tools = tools
        remove_leftovers(self.folder)
        deadline = time.monotonic() + START_SECONDS
        adopted = self._adopt(programs, deadline)
        if adopted is not None:
            return adopted
        if not self.data.exists():
            initialise(self.folder, self.data, programs, tools.user)
        found = self._launch(tools, deadline)
        self._pid = found.pid
        try:
            return self._describe(programs, found, adopted=False)
        except BaseException:
            self.stop()
            raise

    def _adopt(self, programs: Binaries, deadline: float) -> RunningPostgres | None:
        """The server that already runs here; None when there is none, or when it was ending just now."""
        found = live_postmaster(self.data, deadline)
        if found is None:
            self._reap()
            return None
        try:
            found = self._await_ready(found.pid, deadline)
            running = self._describe(programs, found, adopted=self._process is None)
        except (StoreUnavailable, ConfigurationError):
            if postmaster_is(found.pid, self.data):
                raise
            # It was ending while we looked. The pid file is stale now; looking again removes it.
            live_postmaster(self.data, deadline)
            self._reap()
            return None
        if running.adopted:
            log.info("adopted the running PostgreSQL server of %s (pid=%d)", self.data, found.pid)
        self._pid = found.pid
        return running

    def stop(self, mode: str = "fast") -> None:
        """End the server: `fast` after the statements in hand are rolled back, `immediate` as a crash would.

        Raises StoreUnavailable when it does not end. A server that is not running is as good as stopped.
        """
        if self._tools is None:
            return
        self._end(self._tools, mode)
        if self.alive and mode != "immediate":
            log.warning("PostgreSQL did not stop within %d s; stopping it in immediate mode", STOP_SECONDS)
            self._end(self._tools, "immediate")
        if self.alive:
            raise StoreUnavailable(f"PostgreSQL (process {self._pid}) does not stop")
        self._reap()
        self._pid = None

    def crash(self) -> None:
        """End the server without a checkpoint, for tests of recovery."""
        self.stop("immediate")

    def restart(self) -> RunningPostgres:
        """End the server and start it again, on the same port while that is free."""
        self.stop()
        return self.start()

    def __enter__(self) -> RunningPostgres:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self, tools: _Tools, mode: str) -> None:
        command = [tools.programs.program("pg_ctl"), "stop", "-D", str(self.data), "-m", mode, "-w", "-s"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            tools.user.run([*command, "-t", str(STOP_SECONDS)], seconds=STOP_SECONDS + 10)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)

    def _reap(self) -> None:
        """Wait for the end of a server that we started."""
        if self._process is not None:
            self._process.wait(timeout=STOP_SECONDS)
        self._process = None

    def _launch(self, tools: _Tools, deadline: float) -> PostmasterFile:
        """Start the server; once more while the last one's processes are still going, or when a port is taken."""
        orphans_until = time.monotonic() + ORPHANS_SECONDS
        ports = 0
        while True:
            port = self._choose_port(avoid_last=ports > 0)
            output = self._spawn(tools, port)
            if output is None and self._process is not None:
                return self._await_ready(self._process.pid, deadline)
            output = output or ""
            if still_attached(output) and time.monotonic() < orphans_until:
                time.sleep(0.2)
            elif bind_problem(output) and self._port is None and ports < _PORT_TRIES:
                ports += 1
            else:
                raise ConfigurationError(
                    f"PostgreSQL does not start in {self.data}: {last_fatal(output)}",
                    hint=f"see {self._log_file}",
                )

    def _spawn(self, tools: _Tools, port: int) -> str | None:
        """Start the server and wait until it has its port. None, or its output when it ended at once."""
        settings = {
            **self._settings,
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
        }
        command = server_command(tools.programs.program("postgres"), str(self.data), settings)
        with open_log(self._log_file) as file:
            self._log_offset = file.tell()
            self._process = tools.user.popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        deadline = time.monotonic() + BIND_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                return self._output()
            state = PostmasterFile.read(self.data)
            # The port and the addresses are written once they are bound: from here on it only has to recover.
            if state is not None and state.pid == self._process.pid and state.status:
                return None
            time.sleep(_POLL_SECONDS)
        self._process.kill()
        self._reap()
        raise StoreUnavailable(f"PostgreSQL does not come up in {self.data}")

    def _await_ready(self, pid: int, deadline: float) -> PostmasterFile:
        """Wait for the end of recovery."""
        told = False
        begun = time.monotonic()
        while time.monotonic() < deadline:
            state = PostmasterFile.read(self.data)
            if state is not None and state.status == "ready" and state.pid == pid:
                return state
            if self._process is not None and self._process.poll() is not None:
                self._process = None
                raise ConfigurationError(
                    f"PostgreSQL ended while it was starting in {self.data}: {last_fatal(self._output())}",
                    hint=f"see {self._log_file}",
                )
            if self._process is None and not postmaster_is(pid, self.data):
                raise StoreUnavailable(f"PostgreSQL (process {pid}) ended while it was being adopted")
            if not told and time.monotonic() - begun > 5:
                log.info("PostgreSQL is recovering from a crash; this can take minutes")
                told = True
            time.sleep(_POLL_SECONDS)
        if self._process is not None:
            self.stop("immediate")
        raise StoreUnavailable(f"PostgreSQL is not ready after {START_SECONDS:.0f} s in {self.data}")

    @property
    def _log_file(self) -> Path:
        return self.folder / "postgres.log"

    def _output(self) -> str:
        """Output of the server that was started last."""
        with self._log_file.open(errors="replace") as written:
            written.seek(self._log_offset)
            return written.read()

    def _choose_port(self, *, avoid_last: bool) -> int:
        if self._port is not None:
            if not port_is_free(self._port):
                raise ConfigurationError(f"port {self._port} is in use", hint="give another port for PostgreSQL")
            return self._port
        last = None if avoid_last else _last_port(self.folder / "database-url")
        return last if last is not None and port_is_free(last) else free_port()

    def _describe(self, programs: Binaries, found: PostmasterFile, *, adopted: bool) -> RunningPostgres:
        passwords = read_passwords(self.data)
        make_database(programs, found.port, passwords, self.data)
        dsn = f"postgresql://{USER}:{passwords[USER]}@{HOST}:{found.port}/{DATABASE}"
        url_file = self.folder / "database-url"
        write_private(url_file, dsn + "\n")
        return RunningPostgres(
            dsn=dsn,
            administrator_dsn=(f"postgresql://{ADMINISTRATOR}:{passwords[ADMINISTRATOR]}@{HOST}:{found.port}/postgres"),
            port=found.port,
            pid=found.pid,
            adopted=adopted,
            major=programs.major,
            folder=self.folder,
            url_file=url_file,
            log_file=self._log_file,
        )


def _last_port(url_file: Path) -> int | None:
    try:
        return urlsplit(url_file.read_text().strip()).port
    except (OSError, ValueError):
        return None
