"""What stands before every route: request ids, the body limit, bounded concurrency, a deadline."""

from __future__ import annotations

import asyncio
import re
import time
from uuid import uuid4

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memory_operator.http.problems import Problem, answer
from memory_operator.logs import get_logger

log = get_logger(__name__)

MAX_BODY_BYTES = 1 << 20
MAX_REQUESTS = 64
REQUEST_SECONDS = 30.0
_QUEUE_SECONDS = 2.0
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

REQUESTS = Counter("memory_http_requests_total", "Requests by route and status.", ["method", "route", "status"])
REQUEST_TIME = Histogram("memory_http_request_seconds", "Time to answer, by route.", ["method", "route"])


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._room = asyncio.Semaphore(MAX_REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is no request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        reply = _Reply(send, request_id)
        started = time.perf_counter()
        try:
            await self._admitted(scope, receive, reply)
        except Problem as problem:
            if reply.started:
                raise
            await answer(problem, request_id)(scope, receive, reply)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in ("GET", "POST", "PATCH", "DELETE") else "other"
            REQUESTS.labels(method, route, str(reply.status)).inc()
            REQUEST_TIME.labels(method, route).observe(time.perf_counter() - started)

    async def _admitted(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        _check_length(scope)
        try:
            await asyncio.wait_for(self._room.acquire(), _QUEUE_SECONDS)
        except TimeoutError:
            raise _busy("too many requests are being answered") from None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._app(scope, _limited(receive), reply)
        except TimeoutError:
            if reply.started:
                raise
            raise _busy(f"no answer was found within {REQUEST_SECONDS:g} s") from None
        finally:
            self._room.release()


class _Reply:
    """The send callable, which adds the request id and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 500
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = [pair for pair in message.get("headers", []) if pair[0].lower() != b"x-request-id"]
            message["headers"] = [*headers, (b"x-request-id", self._request_id.encode())]
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """The caller's id where it is a sane one, else a new one."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if _GOOD_ID.fullmatch(given) else uuid4().hex


def _check_length(scope: Scope) -> None:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > MAX_BODY_BYTES:
        raise _too_large()


def _limited(receive: Receive) -> Receive:
    """Count the bytes of a body that comes in chunks."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return limited


def _too_large() -> Problem:
    return Problem(413, "body_too_large", f"a request body has at most {MAX_BODY_BYTES} bytes")


def _busy(detail: str) -> Problem:
    return Problem(503, "busy", detail, hint="try again in a moment", headers={"Retry-After": "1"})
