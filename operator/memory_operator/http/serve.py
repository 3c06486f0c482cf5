"""Serving the API until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from memory_operator.http.app import create_app
from memory_operator.http.auth.base import Authenticator
from memory_operator.http.server.admission import Slots
from memory_operator.http.server.uvicorn import serve
from memory_operator.http.services import Services
from memory_operator.logs import get_logger
from memory_operator.store.db.migrate import code_version

log = get_logger(__name__)

REQUESTS_PER_CONNECTION = 16
"""More of them would wait longer for the database than their callers wait for an answer."""


async def serve_api(
    services: Services,
    auth: Authenticator,
    address: tuple[str, int] | socket.socket,
    stop: asyncio.Event,
    *,
    probes: bool = False,
    listening: Callable[[int], None] | None = None,
    drain_seconds: float = 0.0,
) -> None:
    """Serve on (host, port) until `stop` is set, then let the requests in hand end. Port 0 takes a free one.

    `listening` is told the port once connections are taken. Raises ConfigurationError when it cannot be had.
    """
    slots = Slots(services.store.pool_size * REQUESTS_PER_CONNECTION)
    app = create_app(services, auth, code_version(), probes=probes, metrics=services.store.metrics, slots=slots)

    def announce(actual: int) -> None:
        host = address.getsockname()[0] if isinstance(address, socket.socket) else address[0]
        log.info("the API listens on http://%s:%d", f"[{host}]" if ":" in host else host, actual)
        if listening is not None:
            listening(actual)

    following = asyncio.create_task(services.recall.follow_switches(), name="switches of the active space")
    try:
        async with services.recall.ledger_in_batches():
            await serve(app, address, stop, listening=announce, drain_seconds=drain_seconds)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
