"""One uvicorn server inside a process that owns its own signals and its own loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from memory_operator.errors import ConfigurationError

GRACE_SECONDS = 10
"""How long requests in hand may take once the server is told to stop."""

HEAD_SECONDS = 10.0
"""How long a connection may take to send the head of a request."""

_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048
_LAST_PORT = 65_535


class _Protocol(H11Protocol):
    """uvicorn's, which also bounds how long the head of a request, or a body that nobody reads, may take."""

    head_seconds = HEAD_SECONDS
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Close the connection after HEAD_SECONDS, unless a request is whole, or its body is read, by then."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self.transport.close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(uvicorn.Server):
    """uvicorn, which leaves the process's signal handlers alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def drain(self) -> None:
        """Let each answer be the last of its connection, so that clients go elsewhere with the next request."""
        if not self.started:
            return
        self.config.encoded_headers.append(CLOSE_HEADER)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE_HEADER]


async def serve(
    app: ASGIApp,
    address: tuple[str, int],
    stop: asyncio.Event,
    *,
    listening: Callable[[int], None] | None = None,
    grace_seconds: int = GRACE_SECONDS,
    drain_seconds: float = 0.0,
    head_seconds: float = HEAD_SECONDS,
) -> None:
    """Serve on (host, port) until `stop` is set, then let the requests in hand end. Port 0 takes a free one.

    For `drain_seconds` more it still answers, and ends each connection with its answer: whoever sends requests here
    may not have heard yet that this server stops.

    `listening` is told the port once connections are taken. Raises ConfigurationError when it cannot be had.
    """
    listener = bind(*address)
    server = _Server(_config(app, grace_seconds, head_seconds))
    running = asyncio.create_task(server.serve(sockets=[listener]), name="http server on {} port {}".format(*address))
    stopping = asyncio.create_task(stop.wait(), name="http stop")
    try:
        if listening is not None:
            listening(listener.getsockname()[1])
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
        http=type("Protocol", (_Protocol,), {"head_seconds": head_seconds}),
        ws="none",
        server_header=False,
        # Whoever reaches us through a local port would else choose the address that the history shows.
        proxy_headers=False,
        timeout_graceful_shutdown=grace_seconds,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=_BACKLOG,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError naming the address that cannot be had."""
    if not 0 <= port <= _LAST_PORT:  # getaddrinfo would take the remainder
        raise ConfigurationError(f"cannot listen on {host} port {port}", hint=f"ports go from 1 to {_LAST_PORT}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="another process has the port; choose another with --port" if taken else "choose another address",
        ) from error
    return listener
