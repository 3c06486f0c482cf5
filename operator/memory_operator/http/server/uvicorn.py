"""One uvicorn server inside a process that owns its own signals and its own loop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import CLOSE_HEADER

from memory_operator.errors import ConfigurationError
from memory_operator.listening import BACKLOG, HeadLimit, LimitedH11, QuietServer, bind

GRACE_SECONDS = 10
"""How long requests in hand may take once the server is told to stop."""

_KEEP_ALIVE_SECONDS = 75
_LAST_PORT = 65_535


class _Server(QuietServer):
    """One that can tell its clients to go elsewhere."""

    def drain(self) -> None:
        """Let each answer be the last of its connection, so that clients go elsewhere with the next request."""
        if not self.started:
            return
        self.config.encoded_headers.append(CLOSE_HEADER)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE_HEADER]


async def serve(
    app: ASGIApp,
    address: tuple[str, int] | socket.socket,
    stop: asyncio.Event,
    *,
    listening: Callable[[int], None] | None = None,
    grace_seconds: int = GRACE_SECONDS,
    drain_seconds: float = 0.0,
    head_seconds: float = HeadLimit.head_seconds,
) -> None:
    """Serve on (host, port) until `stop` is set, then let the requests in hand end. Port 0 takes a free one.

    Instead of an address it may be a socket that listens already, which is closed at the end. For `drain_seconds` more
    it still answers, and ends each connection with its answer: whoever sends requests here may not have heard yet that
    this server stops.

    `listening` is told the port once connections are taken. Raises ConfigurationError when it cannot be had.
    """
    listener = address if isinstance(address, socket.socket) else bind_or_say_why(*address)
    host, port = listener.getsockname()[:2]
    server = _Server(_config(app, grace_seconds, head_seconds))
    running = asyncio.create_task(server.serve(sockets=[listener]), name=f"http server on {host} port {port}")
    stopping = asyncio.create_task(stop.wait(), name="http stop")
    try:
        if listening is not None:
            listening(port)
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        server.drain()
        await asyncio.wait([running], timeout=drain_seconds)
    finally:
        stopping.cancel()
        server.should_exit = True
        _, late = await asyncio.wait([running], timeout=grace_seconds + 2)
        for task in late:
            task.cancel()
        listener.close()
    await running


def _config(app: ASGIApp, grace_seconds: int, head_seconds: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        http=type("Protocol", (_protocol(),), {"head_seconds": head_seconds}),
        ws="none",
        server_header=False,
        # Whoever reaches us through a local port would else choose the address that the history shows.
        proxy_headers=False,
        timeout_graceful_shutdown=grace_seconds,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=BACKLOG,
    )


def _protocol() -> type[Any]:
    """The faster protocol where its parser is installed, which not every platform has."""
    try:
        from memory_operator.http.server.httptools_protocol import LimitedHttpTools
    except ImportError:
        return LimitedH11
    return LimitedHttpTools


def bind_or_say_why(host: str, port: int, *, listen: bool = True) -> socket.socket:
    """A socket as `bind` makes it. Raises ConfigurationError naming the address that cannot be had."""
    if not 0 <= port <= _LAST_PORT:  # getaddrinfo would take the remainder
        raise ConfigurationError(f"cannot listen on {host} port {port}", hint=f"ports go from 1 to {_LAST_PORT}")
    try:
        return bind(host, port, listen=listen)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="another process has the port; choose another with --port" if taken else "choose another address",
        ) from error
