"""How many connections a server takes, and how long each may do nothing: memory stays bounded whoever connects."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn

from memory_operator.listening import LimitedH11

MOST_CONNECTIONS = 64
"""A TLS connection takes about a third of a megabyte. The API server keeps at most 25 idle ones."""
HANDSHAKE_SECONDS = 3.0
HEADER_SECONDS = 5.0
"""From the connection, or the first byte of a further request, to the end of a request's headers."""
_GOODBYE_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_ENDED_PER_COLLECTION = 16
"""asyncio's TLS objects refer to each other and hold 256 KiB each, and Python's collector counts objects, not bytes.
What there was at the start is frozen, so that a collection looks at little."""

log = logging.getLogger(__name__)


class _Connection(LimitedH11):
    """One that says when it has ended, and sends no goodbye to a client that is late."""

    head_seconds = HEADER_SECONDS

    def __init__(self, ended: Callable[[_Connection], None], **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended(self)

    def end_late(self) -> None:
        self.transport.abort()


class Connections:
    """Accepts the connections of one server. Where there are too many, the one idle for longest makes room."""

    def __init__(self, server: uvicorn.Server, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._context = context
        self._open: dict[_Connection, socket.socket] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._ended = 0

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)  # noqa: FBT003 - as the standard library has it
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:  # no file descriptor left
                log.warning("no connection can be accepted, retrying in %g s: %s", _RETRY_SECONDS, error.strerror)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await self._make_room()
            config = self._server.config
            connection = _Connection(self._leave, config=config, server_state=self._server.server_state, app_state={})
            self._open[connection] = client
            task = asyncio.create_task(self._begin(connection, client), name="handshake")
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _begin(self, connection: _Connection, client: socket.socket) -> None:
        limits = {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": _GOODBYE_SECONDS}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, client, ssl=self._context, **(limits if self._context else {})
            )
        except (OSError, ssl.SSLError) as error:  # a TimeoutError is an OSError
            log.debug("a handshake failed: %s", error)
            self._leave(connection)

    async def _make_room(self) -> None:
        while len(self._open) >= MOST_CONNECTIONS:
            self._freed.clear()
            idle = next((each for each in self._open if not each.busy), None)
            if idle is not None:
                self._close(idle, self._open[idle])
            await self._freed.wait()  # handshakes and requests have their time limits

    def _close(self, connection: _Connection, client: socket.socket) -> None:
        if connection.transport is not None:
            connection.transport.abort()
            return
        try:
            client.shutdown(socket.SHUT_RDWR)  # the handshake fails
        except OSError:
            return  # the client was first

    def _leave(self, connection: _Connection) -> None:
        self._open.pop(connection, None)
        self._ended += 1
        if self._ended % _ENDED_PER_COLLECTION == 0:
            gc.collect()
        self._freed.set()
