"""Does something with the network of a node: from there, pods and Services can be reached by address."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


def enter_network(pid: int) -> None:
    """Give the calling thread, and the threads and processes that it starts, the network of that process.

    For threads made for it: there is no way back. Raises OSError.
    """
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(namespace)


class Inside:
    """Threads with the network of a node. Close it before the node ends."""

    def __init__(self, pid: int, threads: int = 4) -> None:
        self._threads = ThreadPoolExecutor(threads, "inside", initializer=partial(enter_network, pid))

    def run(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Call the function in there, wait for its result; it limits its own waits."""
        return self._threads.submit(function, *arguments, **named).result()

    def close(self) -> None:
        """Wait for what runs."""
        self._threads.shutdown()
