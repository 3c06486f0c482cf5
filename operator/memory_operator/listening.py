"""What our servers and the webhook's share: a listening socket, uvicorn without signal handlers, a limit for heads.

Imports nothing of ours, since the webhook's image holds none of the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

BACKLOG = 2048

if TYPE_CHECKING:
    _Protocol = H11Protocol
else:
    _Protocol = object


class QuietServer(uvicorn.Server):
    """uvicorn, which leaves the process's signal handlers alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change nothing."""
        yield


class HeadLimit(_Protocol):
    """For a protocol of uvicorn's: bounds how long a request's head, or a body that nobody reads, may take."""

    head_seconds = 10.0
    """From the connection, or the first byte of a further request, to the end of a request's headers."""
    _late: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Wait for a first head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was not read."""
        super().on_response_complete()
        if self.cycle.more_body:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._unwatch()
        super().connection_lost(exc)

    def end_late(self) -> None:
        """End a connection whose time is up, after what is still to be sent."""
        self.transport.close()

    def _watch(self) -> None:
        if self.busy:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self.end_late)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class LimitedH11(HeadLimit, H11Protocol):
    """The protocol that is pure Python."""


def bind(host: str, port: int, *, listen: bool = True) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError.

    Without `listen` it refuses connections until whoever is given it listens.

    asyncio turns Nagle's algorithm off only where the protocol is named; with it, an answer on a connection that is
    used again waits 40 ms for the client's delayed acknowledgement.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        if listen:
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
