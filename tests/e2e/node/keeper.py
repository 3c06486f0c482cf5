"""Holds one node for as long as somebody holds this process's stdin open, then removes all traces of it.

    python keeper.py FOLDER CGROUP PROGRAM ARGUMENTS...    prints the pid of the node's first process

PROGRAM runs as the first process of network, mount, PID and host name namespaces of its own. When it ends, so does
everything inside. A test run that is killed closes its end of the pipe; when this process is killed, the kernel
kills the first process. What that leaves is removed by the next node.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--fork", "--kill-child=SIGKILL", "--mount-proc")
CGROUPS = Path("/sys/fs/cgroup")
LEAVE_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)


def _first_process(outside: subprocess.Popen[bytes]) -> int | None:
    """The pid, as seen from here, of what `unshare` has forked."""
    children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
    while outside.poll() is None:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    return None


def _wait(outside: subprocess.Popen[bytes]) -> None:
    """Until nobody holds our stdin any more, or the node has ended by itself."""
    ended = os.pidfd_open(outside.pid)
    waiting = select.poll()
    waiting.register(0, select.POLLIN | select.POLLHUP)
    waiting.register(ended, select.POLLIN)
    while True:
        for file, _ in waiting.poll():
            if file == ended or not os.read(0, 4096):
                return


def remove_cgroups(name: str) -> None:
    """Remove the empty cgroups of a node in each hierarchy, the innermost first."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while left := _cgroups(name):
        for path in sorted(left, key=lambda each: len(each.parts), reverse=True):
            try:
                path.rmdir()
            except OSError:  # a process of it is still going, or the kernel is slow to notice
                if time.monotonic() > deadline:
                    return
        time.sleep(0.05)


def _cgroups(name: str) -> list[Path]:
    tops = [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]
    return [path for top in tops for path in (top, *top.rglob("*")) if path.is_dir()]


def main(folder: str, cgroup: str, *command: str) -> int:
    """Start the node, hold it, remove it. The exit code of its first process."""
    me = os.getpid()
    with open(f"{folder}/log/first.log", "ab") as log:
        outside = subprocess.Popen(
            ["unshare", *NAMESPACES, "--propagation", "private", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: _die_with(me),
        )
    first = _first_process(outside)
    if first is not None:
        os.write(1, b"%d\n" % first)
        os.close(1)
        _wait(outside)
        if outside.poll() is None:
            os.kill(first, signal.SIGKILL)
    code = outside.wait()
    remove_cgroups(cgroup)
    if not os.environ.get("MEMORY_NODE_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
