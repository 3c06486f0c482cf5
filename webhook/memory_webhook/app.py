"""The ASGI application on the TLS port: one route, and no answer of it ever stops a change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from memory_webhook.metrics import WebhookMetrics
from memory_webhook.review import NotAReviewError, answer, read_request, warnings_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REVIEW_PATH = "/validate-omnia-altairalabs-ai-v1alpha1-provider"
MAX_BODY_BYTES = 4 * 1024 * 1024
"""An object has at most 1.5 MiB in etcd, and a review of an update holds two."""
MAX_BODIES_BYTES = 12 * 1024 * 1024
"""What the bodies that are being read may have together; beyond, one of more than SMALL_BODY_BYTES is not read."""
SMALL_BODY_BYTES = 64 * 1024
BODY_SECONDS = 3.0
"""The API server itself waits no longer (timeoutSeconds)."""

_UNREAD = ("too_slow", "too_large", "busy")

log = logging.getLogger(__name__)


class TooLargeError(Exception):
    """The body is longer than MAX_BODY_BYTES."""


class BusyError(Exception):
    """Too much is being read already."""


class GoneError(Exception):
    """The client hung up."""


def review_app(metrics: WebhookMetrics) -> App:
    """The application that answers AdmissionReviews."""

    bodies = _Bodies()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] != REVIEW_PATH:
            await respond(send, 404, b"not found\n")
        elif scope["method"] != "POST":
            await respond(send, 405, b"method not allowed\n", allow="POST")
        else:
            started = time.perf_counter()
            result, reply = await _review(scope, receive, bodies, metrics)
            if result != "gone":
                # A body that was not read to its end would be taken for the next request.
                await respond(send, 200, reply, content_type="application/json", close=result in _UNREAD)
            metrics.seconds.observe(time.perf_counter() - started)

    return app


async def _review(scope: Scope, receive: Receive, bodies: _Bodies, metrics: WebhookMetrics) -> tuple[str, bytes]:
    """What came of one review, and the answer to it; "gone" when nobody is there to read that."""
    uid, warnings, result = "", list[str](), "ok"
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await bodies.read(scope, receive)
        request = read_request(body)
        uid = request.uid
        warnings = warnings_of(request)
    except GoneError:
        return "gone", b""
    except TimeoutError:
        result = "too_slow"
    except TooLargeError:
        result = "too_large"
    except BusyError:
        result = "busy"
    except NotAReviewError as error:
        result = "not_a_review"
        log.warning("allowed without a look: %s", error)
    except Exception:
        result = "failed"
        log.exception("allowed without warnings, since looking at the change failed")
    metrics.reviews.labels(result).inc()
    metrics.warnings.inc(len(warnings))
    return result, answer(uid, warnings)


class _Bodies:
    """The bodies that are being read, bounded together: whoever sends halves of them fills no memory."""

    def __init__(self) -> None:
        self._bytes = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises TooLargeError, BusyError, GoneError."""
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > MAX_BODY_BYTES:
                raise TooLargeError
        parts, length, more = list[bytes](), 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                parts.append(message.get("body", b""))
                length += len(parts[-1])
                self._bytes += len(parts[-1])
                if length > MAX_BODY_BYTES:
                    raise TooLargeError
                if self._bytes > MAX_BODIES_BYTES and length > SMALL_BODY_BYTES:
                    raise BusyError
                more = message.get("more_body", False)
            return b"".join(parts)
        finally:
            self._bytes -= length


async def respond(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: str = "text/plain; charset=utf-8",
    allow: str = "",
    close: bool = False,
) -> None:
    """Send one whole response; `close` ends the connection after it."""
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    if allow:
        headers.append((b"allow", allow.encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
