"""The one place where a call to the API server is made, and where its failures become errors of ours.

SourceUnavailable
├── Forbidden     403: the message names the permission that is missing
├── Expired       410: a page of a list is gone; the list starts anew
└── Refused       400, 422: the API server does not take the object as it is
NotFound          404 that names the object asked for; any other 404 is SourceUnavailable
Conflict          409: somebody else wrote in between
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException

from memory_operator.errors import Conflict, NotFound, SourceUnavailable
from memory_operator.kube.client import credential_refused

CALL_SECONDS = 10.0
"""How long one call may take, reading its answer included."""
_MERGE_PATCH = "application/merge-patch+json"
_AUTH = "BearerToken"  # the client's name for the authorization header

Manifest = dict[str, Any]
Verb = Literal["get", "list", "create", "patch"]

_METHODS: Mapping[Verb, str] = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH"}
_FIELD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Forbidden(SourceUnavailable):
    """The API server does not allow this to our ServiceAccount."""


class Expired(SourceUnavailable):
    """The API server no longer has the state that a list began with."""


class Refused(SourceUnavailable):
    """The API server does not take what was sent."""


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request to the API server, in the words of RBAC."""

    verb: Verb
    group: str
    version: str
    resource: str
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    @property
    def path(self) -> str:
        """The URL path below the server's address."""
        parts = ["api" if not self.group else f"apis/{self.group}", self.version]
        if self.namespace is not None:
            parts += ["namespaces", self.namespace]
        parts += [part for part in (self.resource, self.name, self.subresource) if part is not None]
        return "/" + "/".join(parts)

    @property
    def permission(self) -> str:
        """The permission that the call needs, as a person would write it into a Role."""
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        group = f" of {self.group}" if self.group else ""
        where = f"in namespace {self.namespace}" if self.namespace is not None else "in all namespaces"
        return f"{self.verb} on {resource}{group} {where}"

    def __str__(self) -> str:
        name = "" if self.name is None else f" {self.name}"
        return f"{self.verb} {self.resource}{name}" + (f" in {self.namespace}" if self.namespace is not None else "")


async def ask(
    api: ApiClient,
    call: ApiCall,
    body: Manifest | None = None,
    *,
    query: Sequence[tuple[str, str]] = (),
    seconds: float = CALL_SECONDS,
) -> Manifest:
    """One call; the answer as the API server gave it. Never repeated here.

    Raises SourceUnavailable and its subclasses, NotFound, Conflict.
    """
    for name in (call.namespace, call.name):
        # A Provider may name its Secret "../x", and a server resolves that: no object has such a name, so don't ask.
        if name is not None and not _NAME.fullmatch(name):
            raise NotFound(f"{call.verb} {call.resource}: no object can have the name that was given")
    request = _Request(_METHODS[call.verb], call.path, str(call), body, query)
    answer = await _exchange(api, request, seconds)
    if answer.status < 400:
        return answer.document
    raise _failure(call, answer.status, answer.document)


async def read_path(api: ApiClient, path: str, *, seconds: float = CALL_SECONDS) -> Manifest | None:
    """A document that is no resource, such as discovery; None where the server has none (404).

    Raises SourceUnavailable.
    """
    answer = await _exchange(api, _Request("GET", path, f"get {path}"), seconds)
    if answer.status == 404:
        return None
    if answer.status >= 400:
        raise SourceUnavailable(f"the API server answers {answer.status} to get {path}")
    return answer.document


async def time_of(api: ApiClient, *, seconds: float = CALL_SECONDS) -> datetime:
    """The API server's clock, to the second, from the head of an answer. Raises SourceUnavailable."""
    answer = await _exchange(api, _Request("GET", "/version", "get /version"), seconds)
    try:
        return parsedate_to_datetime(answer.date)
    except ValueError as error:
        raise SourceUnavailable("the API server does not say what time it is") from error


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    what: str
    """What errors call it."""
    body: Manifest | None = None
    query: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    document: Manifest
    """Empty for an answer without JSON."""
    date: str


async def _exchange(api: ApiClient, request: _Request, seconds: float) -> _Reply:
    """One answer, whatever it is."""
    what = request.what
    headers = {"Accept": "application/json"}
    if request.method == "PATCH":
        headers["Content-Type"] = _MERGE_PATCH
    try:
        async with asyncio.timeout(seconds):
            parameters = await api.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query),
                header_params=headers,
                body=request.body,
                auth_settings=[_AUTH],
            )
            response = await api.call_api(*parameters, _request_timeout=aiohttp.ClientTimeout(total=seconds))
            text = await response.read()
    except TimeoutError as error:
        raise SourceUnavailable(f"{what}: no answer from the API server within {seconds:g} s") from error
    except (aiohttp.ClientError, ConfigException, OSError) as error:
        # Their texts hold addresses and paths, which do not belong into a condition.
        raise SourceUnavailable(f"{what}: the API server cannot be reached ({type(error).__name__})") from error
    if response.status == 401:
        credential_refused(api)
    try:
        reply = json.loads(text)
    except ValueError:
        reply = {}
    date = str(response.headers.get("Date", ""))
    return _Reply(response.status, reply if isinstance(reply, dict) else {}, date)


def _failure(call: ApiCall, status: int, reply: Manifest) -> Exception:
    details = reply.get("details") or {}
    if status == 401:
        return SourceUnavailable(f"{call}: the API server does not accept this process's token (401)")
    if status == 403:
        return Forbidden(
            f"the API server does not allow this process to {call} (403): its ServiceAccount needs {call.permission}",
            hint="docs/rbac.md lists what each process needs",
        )
    if status == 404:
        if reply.get("reason") == "NotFound" and details.get("name") == call.name and call.name is not None:
            return NotFound(f"{call}: there is no such object")
        return SourceUnavailable(
            f"{call}: the API server does not know {call.resource} (404)", hint="is the CRD installed?"
        )
    if status == 409:
        return Conflict(f"{call}: it was changed by somebody else", code="conflict")
    if status == 410:
        return Expired(f"{call}: the list expired before its end (410)")
    if status in (400, 422):
        return Refused(f"{call}: the API server refuses it ({status}{_fields(details)})")
    wait = details.get("retryAfterSeconds")
    return SourceUnavailable(
        f"{call}: the API server answers {status}",
        retry_after=float(wait) if isinstance(wait, int) else None,
    )


def _fields(details: Mapping[str, Any]) -> str:
    """Which fields were refused. Their values and the server's prose stay out."""
    causes = details.get("causes")
    names = [cause.get("field") for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    good = [name for name in names if isinstance(name, str) and _FIELD.fullmatch(name)]
    return f": {', '.join(dict.fromkeys(good[:5]))}" if good else ""
