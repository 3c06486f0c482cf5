"""`/livez`, `/readyz` and `/metrics`, from the first second of a process on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from memory_operator.http.server.uvicorn import serve

PROBE_PATHS = ("/livez", "/readyz", "/metrics")

NotReady = Callable[[], Awaitable[str | None]]
"""Why a process is not ready, as the body of a 503; None when it is."""

_READY_SECONDS = 3.0


class Exposed(Protocol):
    """What counts."""

    async def text(self) -> bytes:
        """All counts, in Prometheus's format."""
        ...


def probe_routes(not_ready: NotReady, exposed: Exposed) -> list[Route]:
    """The three routes. They need no authentication, so they carry no tenant and no text of a user."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                reason = await not_ready()
        except TimeoutError:
            reason = f"memory: no answer within {_READY_SECONDS:g} s"
        return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)

    async def metrics(_: Request) -> Response:
        return Response(await exposed.text(), media_type=CONTENT_TYPE_LATEST)

    endpoints = {"/livez": livez, "/readyz": readyz, "/metrics": metrics}
    return [Route(path, endpoints[path]) for path in PROBE_PATHS]


async def serve_probes(
    host: str,
    port: int,
    *,
    ready: NotReady,
    metrics: Exposed,
    stop: asyncio.Event,
    listening: Callable[[int], None] | None = None,
) -> None:
    """Serve the three routes until `stop` is set. Port 0 takes a free one, which `listening` is told.

    Raises ConfigurationError when the port cannot be had.
    """
    await serve(Starlette(routes=probe_routes(ready, metrics)), (host, port), stop, listening=listening)
