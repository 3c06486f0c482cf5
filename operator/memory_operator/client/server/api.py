"""The memory API, as the command line sees it: a few verbs that answer with JSON or raise a CommandError."""

from __future__ import annotations

import json
import re
import ssl
import sys
import time
from typing import Any, Self
from urllib.parse import urlsplit

from memory_operator.client.errors import CommandError, MisunderstoodError, RefusedError, UnreachableError
from memory_operator.client.server.paths import QUERY
from memory_operator.client.server.target import SERVER_HINT, Target

# httpx offers a command line of its own, and would import Rich and Pygments for it: half as much again as all the rest.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # as Python documents it: it cannot be imported

import httpx  # noqa: E402

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
PATIENCE_SECONDS = 10.0
"""The longest wait before one repetition, whatever the server asks for."""
ATTEMPTS = 4
"""How often a read is tried in all when the server says that it is busy."""

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_BUSY = (429, 503)
_GATEWAY = (429, 502, 503, 504)
"""What a gateway answers, in its own words, when it cannot reach the server."""


class ApiClient:
    """One server. Safe for use by several threads; a context manager that owns its connections."""

    def __init__(self, target: Target, *, answer_seconds: float = ANSWER_SECONDS, attempts: int = ATTEMPTS) -> None:
        self.target = target
        self._answer_seconds = answer_seconds
        self._attempts = attempts
        headers = {"accept": "application/json", "user-agent": "memory-cli"}
        if target.token:
            headers["authorization"] = f"Bearer {target.token}"
        self._http = httpx.Client(
            base_url=target.url,
            headers=headers,
            timeout=httpx.Timeout(answer_seconds, connect=min(CONNECT_SECONDS, answer_seconds)),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=64),
            verify=_tls(target),
            # A proxy is for the way out; a server on this machine is never behind it.
            mounts={f"all://{host}": None for host in _LOOPBACK},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """Read; repeated a few times while the server says that it is busy. Raises CommandError."""
        return self._read("GET", path, params={name: value for name, value in params.items() if value is not None})

    def query(self, body: dict[str, Any], path: str = QUERY) -> Any:
        """Look for memories; repeated as `get` is, since nothing is changed. Raises CommandError."""
        return self._read("POST", path, json=body)

    def _read(self, method: str, path: str, **request: Any) -> Any:
        for attempt in range(1, self._attempts + 1):
            try:
                return self._send(method, path, **request)
            except RefusedError as refusal:
                if refusal.status not in _BUSY or attempt == self._attempts:
                    raise
                time.sleep(retry_delay(refusal.retry_after, attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask for a deed; sent once. Raises CommandError."""
        return self._send("POST", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Change; sent once. Raises CommandError."""
        return self._send("PATCH", path, json=body)

    def delete(self, path: str, **params: Any) -> Any:
        """Remove; sent once. None where the server has nothing to say. Raises CommandError."""
        return self._send("DELETE", path, params=params)

    def _send(self, method: str, path: str, **request: Any) -> Any:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise self._no_answer(error, method) from error
        return parse_response(answer)

    def _no_answer(self, error: httpx.HTTPError, method: str) -> CommandError:
        url = self.target.url
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
            hint = "start one here with `make run`, or " if self.target.is_loopback else ""
            why = "no answer in time" if isinstance(error, httpx.TimeoutException) else _reason(error)
            return UnreachableError(f"no memory API at {url}: {why}", f"{hint}{SERVER_HINT}", sent=False)
        look = "" if method == "GET" else "it may have been done all the same: look before you repeat it"
        if isinstance(error, httpx.TimeoutException):
            return UnreachableError(f"{url} did not answer within {self._answer_seconds:g} s", look, sent=True)
        return UnreachableError(f"the connection to {url} broke off ({type(error).__name__})", look, sent=True)


def _reason(error: httpx.HTTPError) -> str:
    """What went wrong, without the number of the system's error."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


def _tls(target: Target) -> ssl.SSLContext | bool:
    """How servers are verified. For http there is nothing to verify: to load the list of authorities takes 30 ms."""
    return urlsplit(target.url).scheme == "https" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def retry_delay(retry_after: float | None, attempt: int) -> float:
    """Seconds to wait before the next attempt: as long as the server says, within reason."""
    wanted = retry_after if retry_after is not None else 0.25 * 2.0**attempt
    return min(PATIENCE_SECONDS, max(0.05, wanted))


def parse_response(answer: httpx.Response) -> Any:
    """The JSON of a good answer, None of an empty one. Raises RefusedError, MisunderstoodError."""
    if answer.status_code == httpx.codes.NO_CONTENT:
        return None
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/problem+json"):
        raise _stranger(answer, kind)
    try:
        document = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _stranger(answer, "broken JSON") from error
    if answer.is_success:
        return document
    if not isinstance(document, dict):
        raise _stranger(answer, "an error without a reason")
    raise RefusedError(answer.status_code, document, _retry_after(answer))


def _stranger(answer: httpx.Response, kind: str) -> CommandError:
    server = answer.request.url.copy_with(path="/", query=None)
    if answer.status_code in _GATEWAY:
        detail = f"{server} answered {answer.status_code} {answer.reason_phrase}: the server behind it is away"
        problem = {"detail": detail, "status": answer.status_code, "code": "gateway", "hint": "try again in a moment"}
        return RefusedError(answer.status_code, problem, _retry_after(answer))
    return MisunderstoodError(
        f"{server} answered {answer.status_code} with {kind or 'no content type'}: that is not a memory API",
        SERVER_HINT,
    )


def _retry_after(answer: httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() else None
