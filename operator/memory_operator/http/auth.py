"""Who calls, which tenant that is, and what they may do: by auth mode."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import Request

from memory_operator.contract.provider import PLURAL
from memory_operator.engine.access import Access, AccessReviewer, Caller, TokenReviewer
from memory_operator.errors import ConfigurationError
from memory_operator.http.problems import Problem

GRANTED_SECONDS = 60.0
DENIED_SECONDS = 10.0
_CACHED = 10_000
_SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Right:
    """Something that a caller may do: its name in a tokens file, and what RBAC calls it."""

    name: str
    verb: str
    resource: str
    subresource: str = ""


CONSENT = Right("consent", "create", PLURAL, "consent")
ACTIVATE = Right("activate", "create", PLURAL, "activate")
JOBS = Right("jobs", "create", PLURAL, "jobs")
LOOK = Right("look", "get", PLURAL)
WRITE_MEMORIES = Right("memories:create", "create", "memories")
READ_MEMORIES = Right("memories:get", "get", "memories")
DELETE_MEMORIES = Right("memories:delete", "delete", "memories")
RIGHTS = (CONSENT, ACTIVATE, JOBS, LOOK, WRITE_MEMORIES, READ_MEMORIES, DELETE_MEMORIES)


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller."""

    name: str
    tenant: str
    namespace: str | None = None
    """The tenant's namespace, where it has one."""
    caller: Caller | None = None
    rights: frozenset[str] = frozenset()


class Authenticator(Protocol):
    """One auth mode."""

    async def identify(self, request: Request) -> Identity:
        """The caller of a request. Raises Problem (401, 403), SourceUnavailable."""
        ...

    async def may(self, identity: Identity, right: Right, namespace: str | None) -> bool:
        """Whether a caller has a right in a namespace; None asks for all of them. Raises SourceUnavailable."""
        ...


def bearer_token(request: Request) -> str:
    """The token of a request. Raises a 401 problem."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthenticated("a bearer token is needed")
    return token.strip()


def unauthenticated(detail: str) -> Problem:
    """The answer to somebody we do not know."""
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="memory-operator"'})


class _NoAuth:
    """Everybody on this machine is the one tenant; a web page is not somebody on this machine."""

    async def identify(self, request: Request) -> Identity:
        host = _host(request.headers.get("host", ""))
        if not _is_loopback(host):
            raise Problem(403, "foreign_host", f"this server answers to loopback names only, not to {host[:100]!r}")
        origin = request.headers.get("origin")
        if origin is not None and not _is_own_origin(origin, request.headers.get("host", "")):
            raise Problem(403, "foreign_origin", "a page of another origin may not call this server")
        return Identity("local", "default")

    async def may(self, identity: Identity, right: Right, namespace: str | None) -> bool:
        return True


def no_auth(host: str) -> Authenticator:
    """Mode `none`, which only loopback may have. Raises ConfigurationError."""
    if not _is_loopback(host):
        raise ConfigurationError(
            f"without authentication the API listens on loopback only, not on {host}",
            hint="use --auth-mode kubernetes or tokens, or listen on 127.0.0.1",
        )
    return _NoAuth()


class _Tokens:
    """Tokens in a file, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._known: list[tuple[str, Identity]] = []
        self._reload()

    def _reload(self) -> None:
        stat = self._path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp:
            self._known = _read_tokens(self._path)
            self._stamp = stamp

    async def identify(self, request: Request) -> Identity:
        digest = hashlib.sha256(bearer_token(request).encode()).hexdigest()
        try:
            self._reload()
        except (OSError, ConfigurationError) as error:
            raise Problem(503, "tokens_unreadable", "the tokens file cannot be read", hint="look at it") from error
        found = None
        for known, identity in self._known:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(known, digest):
                found = identity
        if found is None:
            raise unauthenticated("the token is not known")
        return found

    async def may(self, identity: Identity, right: Right, namespace: str | None) -> bool:
        return right.name in identity.rights


def token_auth(path: Path | None) -> Authenticator:
    """Mode `tokens`. Raises ConfigurationError."""
    if path is None:
        raise ConfigurationError("auth mode tokens needs a file", hint="give it with --tokens-file")
    try:
        return _Tokens(path)
    except OSError as error:
        raise ConfigurationError(f"the tokens file {path} cannot be read ({error.strerror})") from error


def _read_tokens(path: Path) -> list[tuple[str, Identity]]:
    try:
        entries = json.loads(path.read_text())
        return [_token(entry) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"the tokens file {path} is not a list of name, sha256, tenant and rights",
            hint=f"rights are {', '.join(right.name for right in RIGHTS)}; sha256 is the hex digest of the token",
        ) from error


def _token(entry: dict[str, Any]) -> tuple[str, Identity]:
    digest, rights = str(entry["sha256"]).lower(), frozenset(entry["rights"])
    if len(bytes.fromhex(digest)) != 32 or not rights <= {right.name for right in RIGHTS}:
        raise ValueError("not a digest, or an unknown right")
    return digest, Identity(str(entry["name"]), str(entry["tenant"]), rights=rights)


class _Kubernetes:
    """Bearer tokens, reviewed by the API server; what it said is kept for a while."""

    def __init__(self, tokens: TokenReviewer, access: AccessReviewer) -> None:
        self._tokens = tokens
        self._access = access
        self._callers = _Kept()
        self._answers = _Kept()

    async def identify(self, request: Request) -> Identity:
        token = bearer_token(request)
        digest = hashlib.sha256(token.encode()).digest()
        caller = self._callers.get(digest)
        if caller is _ABSENT:
            caller = await self._tokens(token)
            self._callers.put(digest, caller, GRANTED_SECONDS if caller else DENIED_SECONDS)
        if caller is None:
            raise unauthenticated("the API server does not accept the token")
        return _identity(caller)

    async def may(self, identity: Identity, right: Right, namespace: str | None) -> bool:
        if identity.caller is None:
            return False
        key = (identity.caller.username, identity.caller.groups, right, namespace)
        allowed = self._answers.get(key)
        if allowed is _ABSENT:
            access = Access(right.verb, right.resource, right.subresource, namespace)
            allowed = await self._access(identity.caller, access)
            self._answers.put(key, allowed, GRANTED_SECONDS if allowed else DENIED_SECONDS)
        return bool(allowed)


def kubernetes_auth(tokens: TokenReviewer, access: AccessReviewer) -> Authenticator:
    """Mode `kubernetes`."""
    return _Kubernetes(tokens, access)


def _identity(caller: Caller) -> Identity:
    if caller.username.startswith(_SERVICE_ACCOUNT):
        namespace = caller.username.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        return Identity(caller.username, namespace, namespace, caller)
    return Identity(caller.username, f"user:{caller.username}", None, caller)


_ABSENT: Any = object()


class _Kept:
    """A bounded memory whose entries have an end."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Any, tuple[float, Any]] = OrderedDict()

    def get(self, key: Any) -> Any:
        until, value = self._entries.get(key, (0.0, _ABSENT))
        return value if time.monotonic() < until else _ABSENT

    def put(self, key: Any, value: Any, seconds: float) -> None:
        self._entries[key] = (time.monotonic() + seconds, value)
        self._entries.move_to_end(key)
        while len(self._entries) > _CACHED:
            self._entries.popitem(last=False)


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return header


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_own_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme == "http" and parts.netloc == host
