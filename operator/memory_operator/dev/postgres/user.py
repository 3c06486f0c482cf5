"""Who runs the database server. PostgreSQL refuses to be root, and root's folders are often closed to all others.

No mode is ever widened. Where a folder is closed, the server's user gets the one capability that lets it read past
modes, kept across the change of user by util-linux's setpriv.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory_operator.dev.postgres.binaries import Binaries
from memory_operator.errors import ConfigurationError

TRIAL_SECONDS = 30.0
_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}
"""Number of each capability that opens closed folders; the one that can only read comes first."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that PostgreSQL runs as, and how to start a program as that user."""

    uid: int
    gid: int
    name: str
    prefix: tuple[str, ...] = ()
    """Command in front of the program's own; it keeps the capability."""
    switch: dict[str, Any] = field(default_factory=dict)
    """Arguments of `subprocess` that change the user; empty where nothing is to be changed."""

    def popen(self, argv: Sequence[str], **arguments: Any) -> subprocess.Popen[bytes]:
        """Start a program as this user, with nothing of our environment and in a session of its own.

        A session of its own keeps the terminal's Ctrl-C away from the server.
        """
        return subprocess.Popen(  # noqa: S603 - programs of the embedded server
            [*self.prefix, *argv],
            env=CLEAN_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            **self.switch,
            **arguments,
        )

    def run(self, argv: Sequence[str], *, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this user. Raises subprocess.TimeoutExpired."""
        return subprocess.run(  # noqa: S603 - programs of the embedded server
            [*self.prefix, *argv],
            env=CLEAN_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
            **self.switch,
        )


CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "TZ": "UTC",
}
"""What the server sees of the environment: none of our keys and passwords."""


def server_user(data: Path, programs: Binaries) -> ServerUser:
    """The user for the database that is, or will be, in `data`, a real path.

    Raises ConfigurationError naming the folder that is in the way.
    """
    if os.geteuid() != 0:
        return _plain_user(data)
    uid, gid, name = _account(data)
    folder = data.parent
    blocked = [
        *blocked_paths(uid, gid, [folder], search_only=True),
        *blocked_paths(uid, gid, programs.needed_by_server()),
    ]
    if not blocked:
        return ServerUser(uid, gid, name, switch={"user": uid, "group": gid, "extra_groups": []})
    return _with_capability(uid, gid, name, blocked, folder, programs)


def blocked_paths(uid: int, gid: int, paths: Iterable[Path], *, search_only: bool = False) -> list[Path]:
    """What on the way to these real paths is closed to a user without other groups, outermost first.

    Judged by owner, group and mode. `search_only`: it is enough to be able to pass through the last one.
    """
    blocked: dict[Path, None] = {}
    for path in paths:
        for step in [*reversed(path.parents), path]:
            status = step.stat()
            wanted = 0o1 if stat.S_ISDIR(status.st_mode) else 0o4
            if step == path and not search_only:
                wanted |= 0o4
            shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
            if (status.st_mode >> shift) & wanted != wanted:
                blocked[step] = None
    return list(blocked)


def _plain_user(data: Path) -> ServerUser:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        if not data.exists():
            raise ConfigurationError(
                f"user id {uid} has no name on this machine, and PostgreSQL needs one to make a database",
                hint="add a line for it to /etc/passwd, or use a database of your own with --database-url",
            ) from None
        name = str(uid)
    if data.exists() and data.stat().st_uid != uid:
        raise ConfigurationError(
            f"{data} belongs to user id {data.stat().st_uid}, not to {name}",
            hint="run as root or as that user, or give another folder with --data",
        )
    return ServerUser(uid, os.getegid(), name)


def _account(data: Path) -> tuple[int, int, str]:
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:
            raise ConfigurationError(
                f"{data} belongs to root, and PostgreSQL refuses to run as root",
                hint=f"give it to another user: chown -R postgres {data}",
            )
        try:
            entry = pwd.getpwuid(owner.st_uid)
        except KeyError:
            return owner.st_uid, owner.st_gid, str(owner.st_uid)
        return entry.pw_uid, entry.pw_gid, entry.pw_name
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry.pw_uid, entry.pw_gid, entry.pw_name
    raise ConfigurationError(
        "PostgreSQL refuses to run as root, and this machine has neither a user postgres nor a user nobody",
        hint="make one of them, or run memory-operator as a plain user",
    )


def _with_capability(
    uid: int, gid: int, name: str, blocked: list[Path], folder: Path, programs: Binaries
) -> ServerUser:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise _in_the_way(blocked, name, folder, "setpriv (util-linux) is not installed")
    reason = "root has neither CAP_DAC_READ_SEARCH nor CAP_DAC_OVERRIDE here"
    for capability in _usable_capabilities():
        user = ServerUser(uid, gid, name, prefix=_keeping(setpriv, uid, gid, capability))
        try:
            trial = user.run([programs.program("initdb"), "--show", "-D", str(folder)], seconds=TRIAL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _in_the_way(blocked, name, folder, f"setpriv cannot be run: {error}") from error
        if trial.returncode == 0:
            return user
        # Being able to read everything does not make a program runnable that is closed itself (umask 077).
        reason = (trial.stderr.strip().splitlines() or ["no reason given"])[0]
    raise _in_the_way(blocked, name, folder, reason)


def _keeping(setpriv: str, uid: int, gid: int, capability: str) -> tuple[str, ...]:
    return (
        setpriv,
        f"--reuid={uid}",
        f"--regid={gid}",
        "--clear-groups",
        f"--inh-caps=+{capability}",
        f"--ambient-caps=+{capability}",
        # access(2), with which PostgreSQL looks for its own programs, ignores capabilities without this bit.
        "--securebits=+no_setuid_fixup",
        "--no-new-privs",
    )


def _in_the_way(blocked: list[Path], name: str, folder: Path, reason: str) -> ConfigurationError:
    first = blocked[0]
    mode = stat.S_IMODE(first.stat().st_mode)
    ours = first in (folder, *folder.parents)
    what = f"give a folder outside {first} with --data" if ours else f"install memory-operator outside {first}"
    return ConfigurationError(
        f"{first} (mode {mode:04o}) is closed to the user {name}, whom PostgreSQL has to run as ({reason})",
        hint=f"{what}, or run memory-operator as a plain user; no mode was changed",
    )


def _usable_capabilities() -> list[str]:
    sets = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        label, _, value = line.partition(":")
        if label in ("CapPrm", "CapBnd"):
            sets[label] = int(value, 16)
    usable = sets["CapPrm"] & sets["CapBnd"]
    return [name for name, number in _CAPABILITIES.items() if usable >> number & 1]
