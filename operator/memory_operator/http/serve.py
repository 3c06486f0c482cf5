"""Serving the API until it is told to stop."""

from __future__ import annotations

import asyncio

from memory_operator.http.app import create_app
from memory_operator.http.auth import Authenticator
from memory_operator.http.server import serve
from memory_operator.http.services import Services
from memory_operator.logs import get_logger
from memory_operator.store.migrate import code_version

log = get_logger(__name__)


async def serve_api(
    services: Services, auth: Authenticator, host: str, port: int, stop: asyncio.Event, *, probes: bool = False
) -> None:
    """Serve until `stop` is set. Raises ConfigurationError when the port is taken."""
    app = create_app(services, auth, code_version(), probes=probes)
    log.info("the API listens on http://%s:%d", host, port)
    await serve(app, host, port, stop)
