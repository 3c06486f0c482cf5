"""What stands before every route: request ids, foreign pages, the body limit, bounded concurrency, a deadline."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memory_operator import traces
from memory_operator.http.problems import Problem, answer, internal
from memory_operator.http.server.admission import Slots
from memory_operator.logs import REQUEST_ID, get_logger
from memory_operator.metrics import Metrics
from memory_operator.store.db.pool import CALLER, TENANT
from memory_operator.traces import Span

log = get_logger(__name__)

MAX_BODY_BYTES = 1 << 20
MAX_REQUESTS = 128
"""Requests that are worked on at the same time, unless the number of database connections says otherwise."""
BODY_SECONDS = 30.0
"""How long a body may take to arrive."""
REQUEST_SECONDS = 30.0
"""How long a request is worked on."""

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset(("GET", "POST", "PATCH", "DELETE"))
_WITH_BODY = frozenset(("POST", "PATCH"))
"""Methods whose routes read a body, all of them to its end."""
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
}

Screen = Callable[[Mapping[str, str]], None]
"""Looks at the headers of every request; raises Problem."""


class Guard:
    """ASGI middleware around all routes."""

    def __init__(
        self,
        app: ASGIApp,
        screen: Screen,
        *,
        metrics: Metrics | None = None,
        slots: Slots | None = None,
        always_answered: Collection[str] = (),
        body_seconds: float = BODY_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        """`always_answered` are the paths of probes: they need no slot."""
        self._app = app
        self._screen = screen
        self._metrics = metrics or Metrics()
        self._slots = slots or Slots(MAX_REQUESTS)
        self._always_answered = always_answered
        self._body_seconds = body_seconds
        self._request_seconds = request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens meanwhile; pass on what is no request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        reply = _TrackedReply(send, request_id)
        marked = REQUEST_ID.set(request_id)
        try:
            with traces.request_span(Headers(scope=scope), request_id) as span:
                await self._account_for(scope, receive, reply, request_id, span)
        finally:
            REQUEST_ID.reset(marked)

    async def _account_for(
        self, scope: Scope, receive: Receive, reply: _TrackedReply, request_id: str, span: Span
    ) -> None:
        started = time.perf_counter()
        try:
            problem = await self._answered(scope, receive, reply, request_id)
            if problem is not None and not reply.started:
                await answer(problem, request_id)(scope, receive, reply)
        finally:
            _account(self._metrics, scope, reply.status, time.perf_counter() - started, span)

    async def _answered(self, scope: Scope, receive: Receive, reply: _TrackedReply, request_id: str) -> Problem | None:
        """Let the app answer; the problem to answer with instead, or None."""
        try:
            self._screen(Headers(scope=scope))
            _check_length(scope)
            await self._admitted(scope, receive, reply)
        except Problem as problem:
            return problem
        except ClientDisconnect:
            log.debug("a client went away in the middle of its request", extra={"request_id": request_id})
        except Exception:
            log.exception("a request failed", extra={"request_id": request_id})
            if reply.started:
                raise  # the server cuts the connection, so that half an answer is not taken for a whole one
            return internal()
        return None

    async def _admitted(self, scope: Scope, receive: Receive, reply: _TrackedReply) -> None:
        """Let the app answer. A slot is taken once the body is there: who sends slowly keeps nobody else waiting."""
        if scope["path"] in self._always_answered:
            await self._app(scope, receive, reply)
            return
        caller, slot = _caller(scope), None
        CALLER.set(caller)
        TENANT.set("")
        try:
            async with asyncio.timeout(self._body_seconds) as limit:

                async def admit() -> None:
                    nonlocal slot
                    slot = await self._slots.take(caller)
                    limit.reschedule(asyncio.get_running_loop().time() + self._request_seconds)

                late = scope["method"] in _WITH_BODY
                if not late:
                    await admit()
                await self._app(scope, _limited(receive, admit if late else None), reply)
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._too_late(admitted=slot is not None) from None
        finally:
            if slot is not None:
                self._slots.give_back(slot)

    def _too_late(self, *, admitted: bool) -> Problem:
        if admitted:
            return Problem(503, "timeout", f"no answer was found within {self._request_seconds:g} s")
        close = {"Connection": "close"}
        return Problem(408, "body_too_slow", f"the body did not arrive within {self._body_seconds:g} s", headers=close)


class _TrackedReply:
    """The send callable, which adds headers and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._headers = {**_HEADERS, b"x-request-id": request_id.encode()}
        self.status = 500
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            given = [(name.lower(), value) for name, value in message.get("headers", [])]
            names = {name for name, _ in given}
            added = [(name, value) for name, value in self._headers.items() if name not in names]
            message = {**message, "headers": [*given, *added]}
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """The caller's id where it is a sane one, else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _GOOD_ID.fullmatch(given) else uuid4().hex


def _check_length(scope: Scope) -> None:
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > MAX_BODY_BYTES:
        raise _too_large()


def _caller(scope: Scope) -> str:
    """Who shares slots with whom: the same token, or the same address where there is none."""
    token = Headers(scope=scope).get("authorization")
    return f"token {hash(token)}" if token else f"address {(scope.get('client') or ('',))[0]}"


def _limited(receive: Receive, admit: Callable[[], Awaitable[None]] | None) -> Receive:
    """Count the bytes of a body that comes in chunks, and have the request admitted once it is there."""
    seen, whole = 0, False

    async def limited() -> Message:
        nonlocal seen, whole
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise _too_large()
        if admit and not whole and message["type"] == "http.request" and not message.get("more_body"):
            whole = True
            await admit()
        return message

    return limited


def _too_large() -> Problem:
    return Problem(413, "body_too_large", f"a request body has at most {MAX_BODY_BYTES} bytes")


def _account(metrics: Metrics, scope: Scope, status: int, seconds: float, span: Span) -> None:
    """Count a request by its route; the path itself may hold an id, and its query a text."""
    route = str(getattr(scope.get("route"), "path", "unmatched"))
    method = scope["method"] if scope["method"] in _METHODS else "other"
    span.answered(method, route, status)
    metrics.http_requests.labels(method, route, str(status)).inc()
    metrics.http_seconds.labels(method, route).observe(seconds)
    log.debug("%s %s %d %.1f ms", method, route, status, seconds * 1000)
