"""Runs operator/image/install.sh on a Debian with Python, as a stage of a Dockerfile would.

Needs root and debootstrap. Everything is mounted in a namespace that ends with the script.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = "operator/image/install.sh"
CODE = ("operator", "webhook", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "crds")
"""What our wheel is made of."""
NEEDED = (*CODE, "requirements")
SUITE = "bookworm"
"""The Debian whose Python is that of the Dockerfiles, 3.11."""
BASE_SECONDS = 900.0
SCRIPT_SECONDS = 900.0

# What a network needs, where the machine has it: names, and who may sign for whom.
_OF_THE_MACHINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")

_IN_THE_ROOM = r"""
set -eu
room=$1; source=$2; pip=$3; lower=$4; upper=$5; work=$6; shift 6
if [ -n "$lower" ]; then mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$room"
else mount --bind "$room" "$room"; fi
mount -t proc proc "$room/proc"
mount --rbind /dev "$room/dev"
mount -t tmpfs tmpfs "$room/tmp"
mkdir -p "$room/tmp/source" "$room/tmp/pip/pip"
# A copy: whatever the script does, the checkout stays as it is.
(cd "$source" && cp -r $NEEDED "$room/tmp/source/")
if [ -n "$lower" ]; then
  mount --bind "$pip" "$room/tmp/pip/pip"
  for file in $FROM_THE_MACHINE; do
    mkdir -p "$room$(dirname "$file")"
    if [ -d "$file" ]; then mkdir -p "$room$file"; else [ -e "$room$file" ] || : >"$room$file"; fi
    mount --bind "$file" "$room$file"
  done
fi
exec chroot "$room" "/tmp/source/$SCRIPT" "$@"
"""


class RoomError(Exception):
    """The script cannot be run here, or fails; the message says why."""


def make_debian(folder: Path) -> None:
    """Make a minimal Debian with Python in `folder`."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", SUITE, str(unfinished)]
    _run(command, dict(os.environ), BASE_SECONDS)
    for package in (unfinished / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    unfinished.rename(folder)


def make_base(debian: Path, folder: Path) -> None:
    """Make of it, in `folder`, what the images have below everything else."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _run(["cp", "--archive", str(debian), str(unfinished)], dict(os.environ), BASE_SECONDS)
    _enter(unfinished, ["base"])
    unfinished.rename(folder)


def install(arguments: Sequence[str], lower: Sequence[Path], result: Path) -> None:
    """Run the script over file systems (the last one is the lowest); `result` gets what it adds."""
    unfinished = result.with_suffix(".unfinished")
    room, work = result.with_suffix(".room"), result.with_suffix(".work")
    for folder in (unfinished, room, work):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    _enter(room, arguments, lower=lower, upper=unfinished, work=work)
    shutil.rmtree(work)
    room.rmdir()
    unfinished.rename(result)


def _enter(
    room: Path,
    arguments: Sequence[str],
    *,
    lower: Sequence[Path] = (),
    upper: Path | None = None,
    work: Path | None = None,
) -> None:
    environment = _environment()
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"]
    command += ["sh", "-c", _IN_THE_ROOM, "room", str(room), str(ROOT), str(_pip(room.parent))]
    command += [":".join(map(str, lower)), str(upper or ""), str(work or ""), *arguments]
    _run(command, environment, SCRIPT_SECONDS)


def _environment() -> dict[str, str]:
    """Of this process's environment: how pip and everybody else reach the network."""
    wanted = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_")
    kept = {key: value for key, value in os.environ.items() if key.startswith(wanted)}
    links = [path for path in kept.get("PIP_FIND_LINKS", "").split() if Path(path).is_dir()]
    files = [path for path in (*_OF_THE_MACHINE, *links) if Path(path).exists()]
    return kept | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": "/tmp/pip",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SCRIPT": SCRIPT,
        "NEEDED": " ".join(NEEDED),
        "FROM_THE_MACHINE": " ".join(files),
    }


def _pip(folder: Path) -> Path:
    """The pip that comes with this Python, alone in a folder of its own: the images have none."""
    place = folder / "pip" / "venv"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        (place / "complete").touch()
    return next(place.glob("lib/python3*/site-packages/pip"))


def _run(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> None:
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise RoomError(f"{command[0]} is not installed: apt-get install {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise RoomError(f"{command[0]} takes longer than {seconds:.0f} s") from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RoomError(f"{command[0]} exits {done.returncode}:\n{last}")
