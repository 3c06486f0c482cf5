"""Runs one program for as long as somebody holds this process's stdin open.

    python guard.py LOGFILE PROGRAM ARGUMENTS...      prints the program's pid, exits with its exit code

A test run that is killed cannot stop its servers, but the kernel closes its end of the pipe. The death signal of
a parent (PR_SET_PDEATHSIG) would not do in the test run itself: it follows the thread that started the program, and
a test may restart a server from a thread that ends with the test. Here is only one thread that starts anything.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

TERMINATE_SECONDS = 10.0
"""How long a program may take to end by itself; then it is killed. A frozen one is woken first."""
_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """In the child: be killed when the guard is. Linux only; elsewhere the closed pipe has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)


def _end_with_stdin(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    child.send_signal(signal.SIGCONT)
    child.terminate()
    try:
        child.wait(TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def main(log: str, *command: str) -> int:
    """Start the program, wait for its end. Its exit code; 128 + signal when a signal ended it."""
    me = os.getpid()
    with open(log, "ab") as output:
        # One thread only at this point, so a function between fork and exec is safe.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: _die_with(me),
        )
    os.write(1, b"%d\n" % child.pid)
    os.close(1)
    threading.Thread(target=_end_with_stdin, args=(child,), name="end-with-stdin", daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
