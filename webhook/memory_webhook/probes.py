"""The ASGI application on the second port: `/livez`, `/readyz`, `/metrics`, without TLS and without authentication."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from memory_webhook.app import App, Receive, Scope, Send, respond
from memory_webhook.metrics import WebhookMetrics

NotReady = Callable[[], str | None]
"""Why the process is not ready; None when it is."""


def probe_app(metrics: WebhookMetrics, not_ready: NotReady) -> App:
    """The application that answers probes and scrapes."""

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            await respond(send, 405, b"method not allowed\n", allow="GET, HEAD")
        elif path == "/livez":
            await respond(send, 200, b"ok\n")
        elif path == "/readyz":
            reason = not_ready()
            await respond(send, 503 if reason else 200, f"{reason or 'ok'}\n".encode())
        elif path == "/metrics":
            await respond(send, 200, generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)
        else:
            await respond(send, 404, b"not found\n")

    return app
