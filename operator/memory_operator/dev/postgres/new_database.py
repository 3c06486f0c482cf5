"""Making the embedded database: its data directory, its two users, the extension. Done once, checked at each start."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from memory_operator.dev.folder import sync_folder, write_private
from memory_operator.dev.postgres.binaries import Binaries
from memory_operator.dev.postgres.initdb import ADMINISTRATOR, MAKE_DATABASE, initdb_command, psql_command
from memory_operator.dev.postgres.postmaster import HOST
from memory_operator.dev.postgres.user import ServerUser
from memory_operator.errors import ConfigurationError, StoreUnavailable

USER = "memory"
"""Owner of the database. No superuser: as root, the server may be able to read every file of the machine."""
DATABASE = "memory"

INITDB_SECONDS = 120.0
LEFTOVERS_SECONDS = 10.0
PSQL_SECONDS = 60.0

_WHICH_SERVER = "select 'data=' || current_setting('data_directory');\n"


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted initdb left. One that still runs finds its folder gone and gives up."""
    deadline = time.monotonic() + LEFTOVERS_SECONDS
    for leftover in folder.glob("postgres.initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
        # Until it has given up it goes on making files where we remove them.
        while leftover.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
            shutil.rmtree(leftover, ignore_errors=True)


def initialise(folder: Path, data: Path, programs: Binaries, user: ServerUser) -> None:
    """Make a new database aside in `folder` and move it to `data` in one step.

    Raises ConfigurationError, and StoreUnavailable when it takes too long.
    """
    try:
        workshop = Path(tempfile.mkdtemp(prefix="postgres.initdb-", dir=folder))
        try:
            fresh = workshop / "data"
            password_file = workshop / "password"
            passwords = {name: secrets.token_urlsafe(24) for name in (ADMINISTRATOR, USER)}
            fresh.mkdir(mode=0o700)
            password_file.touch(mode=0o600)
            password_file.write_text(passwords[ADMINISTRATOR] + "\n")
            if os.geteuid() == 0:
                for path in (workshop, fresh, password_file):
                    os.chown(path, user.uid, user.gid)
            _initdb(fresh, password_file, programs, user)
            # In the database's own folder, so that the two can neither be parted nor be half there.
            write_private(fresh / "dev-passwords", json.dumps(passwords))
            fresh.rename(data)
            sync_folder(folder)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(
            f"no database can be made in {folder}: {error.strerror}", hint="give another folder with --data"
        ) from error


def _initdb(fresh: Path, password_file: Path, programs: Binaries, user: ServerUser) -> None:
    reason = ""
    # Not every machine has C.UTF-8; every machine has C.
    for character_type in ("C.UTF-8", "C"):
        command = initdb_command(
            *(programs.program("initdb"), str(fresh), f"--pwfile={password_file}", "--auth=scram-sha-256"),
            major=programs.major,
            character_type=character_type,
        )
        try:
            done = user.run(command, seconds=INITDB_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StoreUnavailable(f"initdb takes longer than {INITDB_SECONDS:.0f} s") from error
        if done.returncode == 0:
            return
        reason = next((line for line in done.stderr.splitlines() if "error:" in line), done.stderr.strip())
        if "locale" not in done.stderr:
            break
    raise ConfigurationError(f"initdb cannot make a database: {reason}", hint="give another folder with --data")


def read_passwords(data: Path) -> dict[str, str]:
    """Passwords of ADMINISTRATOR and USER. Raises ConfigurationError when they are lost."""
    path = data / "dev-passwords"
    try:
        passwords = json.loads(path.read_text())
        return {name: str(passwords[name]) for name in (ADMINISTRATOR, USER)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({type(error).__name__})",
            hint="restore it from a backup; without it nobody can log in to this database",
        ) from error


def make_database(programs: Binaries, port: int, passwords: Mapping[str, str], data: Path) -> None:
    """Prove that the server is the one of `data`, and make user, database and extension where they are missing.

    Raises StoreUnavailable when it does not let us in, ConfigurationError when its data are elsewhere.
    """
    connection = ("-h", HOST, "-p", str(port))
    command = psql_command(programs.program("psql"), USER, DATABASE, connection)
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "PGPASSWORD": passwords[ADMINISTRATOR],
        "PGCONNECT_TIMEOUT": "10",
        "NEW_PASSWORD": passwords[USER],
    }
    try:
        done = subprocess.run(  # noqa: S603 - a program of the embedded server
            command,
            input=_WHICH_SERVER + MAKE_DATABASE,
            env=environment,
            cwd="/",
            capture_output=True,
            encoding="utf-8",
            timeout=PSQL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(f"the embedded PostgreSQL on port {port} does not answer") from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StoreUnavailable(f"the embedded PostgreSQL on port {port} does not let us in: {reason}")
    told = re.search(r"^data=(.*)$", done.stdout, re.MULTILINE)
    if told is None or Path(told[1]).resolve() != data:
        raise ConfigurationError(
            f"the PostgreSQL on port {port} keeps its data elsewhere, not in {data}",
            hint="was the folder copied or moved while its server ran? Stop that server first",
        )
