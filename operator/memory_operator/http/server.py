"""One uvicorn server inside a process that owns its own signals and its own loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from memory_operator.errors import ConfigurationError

_GRACE_SECONDS = 10


class _Server(uvicorn.Server):
    """uvicorn, which leaves the process's signal handlers alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: ASGIApp, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then let the requests in hand end. Raises ConfigurationError (port taken)."""
    listener = bind(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]), name=f"http server on port {port}")
    stopping = asyncio.create_task(stop.wait(), name="http stop")
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await asyncio.wait([running], timeout=_GRACE_SECONDS + 5)
        listener.close()
    if running.done():
        running.result()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError naming the address that cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="another process has the port; choose another with --port" if taken else "choose another address",
        ) from error
    return listener
