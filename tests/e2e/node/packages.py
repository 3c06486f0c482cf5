"""What a node needs of the machine: root on Linux, and programs that Debian has packages for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.harness.errors import ControlPlaneError

INSTALL_SECONDS = 900.0

_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "debootstrap": "debootstrap",
}
_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Say = Callable[[str], None]


class UnfitMachineError(ControlPlaneError):
    """No node can run here; the message says why, and what to do."""


def unfit(environment: Mapping[str, str]) -> str:
    """Why no node can run on this machine; empty when one can."""
    if sys.platform != "linux":
        return "a node needs Linux"
    if os.geteuid() != 0:
        return "a node needs root, for namespaces, mounts and cgroups"
    missing = _missing(environment)
    return f"a node needs {', '.join(missing)}: `make e2e` installs them on a Debian" if missing else ""


def install(environment: Mapping[str, str], say: Say) -> None:
    """Install what is missing with apt-get. Raises UnfitMachineError where that is not possible."""
    missing = _missing(environment)
    if sys.platform != "linux" or os.geteuid() != 0 or not missing:
        reason = unfit(environment)
        if reason:
            raise UnfitMachineError(f"{reason}. Docker and kind do without: `make kind`")
        return
    packages = sorted({_PACKAGES[program] for program in missing})
    if shutil.which("apt-get", path=search_path(environment)) is None or not Path("/etc/debian_version").exists():
        raise UnfitMachineError(f"install what has these programs, this is no Debian: {', '.join(missing)}")
    say(f"apt-get install {' '.join(packages)} ...")
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            command,
            env=dict(environment) | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
            raise UnfitMachineError(f"`{' '.join(command)}` exits {done.returncode}:\n{last}")
    if left := _missing(environment):
        raise UnfitMachineError(f"installed, and still not there: {', '.join(left)}")


def search_path(environment: Mapping[str, str]) -> str:
    """PATH with the folders of an administrator's programs."""
    given = environment.get("PATH", "")
    return f"{given}:{_FOLDERS}" if given else _FOLDERS


def _missing(environment: Mapping[str, str]) -> list[str]:
    return [program for program in _PACKAGES if shutil.which(program, path=search_path(environment)) is None]
