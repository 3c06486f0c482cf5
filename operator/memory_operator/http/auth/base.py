"""Who calls, which tenant that is, and what they may do: the words that all auth modes share, and the mode `none`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from fastapi import Request

from memory_operator.contract.provider import PLURAL
from memory_operator.engine.ports.access import Caller
from memory_operator.errors import ConfigurationError
from memory_operator.http.problems import Problem


@dataclass(frozen=True, slots=True)
class Right:
    """Something that a caller may do: its name in a tokens file, and what RBAC calls it."""

    name: str
    verb: str
    resource: str
    subresource: str = ""

    @property
    def what(self) -> str:
        """The resource as a Role names it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


CONSENT = Right("consent", "create", PLURAL, "consent")
ACTIVATE = Right("activate", "create", PLURAL, "activate")
JOBS = Right("jobs", "create", PLURAL, "jobs")
READ = Right("read", "get", PLURAL)
"""Spaces, status, jobs, held changes and markers: what `kubectl get providers` shows, and more of it."""
WRITE_MEMORIES = Right("memories:create", "create", "memories")
READ_MEMORIES = Right("memories:get", "get", "memories")
DELETE_MEMORIES = Right("memories:delete", "delete", "memories")
RIGHTS = (CONSENT, ACTIVATE, JOBS, READ, WRITE_MEMORIES, READ_MEMORIES, DELETE_MEMORIES)


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller."""

    name: str
    tenant: str
    namespace: str | None = None
    """The tenant's namespace, where it has one."""
    rights: frozenset[str] = frozenset()
    """In mode `tokens`."""
    caller: Caller | None = None
    """In mode `kubernetes`."""
    token_digest: bytes = field(default=b"", repr=False)


class Authenticator(Protocol):
    """One auth mode."""

    def screen(self, headers: Mapping[str, str]) -> None:
        """Look at every request, also of the routes that are open. Raises Problem (403)."""
        ...

    async def identify(self, request: Request) -> Identity:
        """The caller of a request. Raises Problem (401), SourceUnavailable."""
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
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


class _NoAuth:
    """Everybody on this machine is the one tenant; a page in a browser is not somebody on this machine."""

    def screen(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if not is_loopback(_name(host)):
            # A foreign name that was made to lead here (DNS rebinding) would give a page our answers.
            raise Problem(
                403,
                "foreign_host",
                "without authentication this server answers to loopback names only",
                hint="call it as 127.0.0.1 or localhost, or choose another auth mode",
            )
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise Problem(
                403,
                "foreign_origin",
                "a page of another origin may not call this server",
                hint="call it from a program, or choose another auth mode",
            )

    async def identify(self, request: Request) -> Identity:
        return Identity("local", "default")

    async def may(self, identity: Identity, right: Right, namespace: str | None) -> bool:
        return True


def no_auth(host: str) -> Authenticator:
    """Mode `none`, which only an API that listens on loopback may have. Raises ConfigurationError."""
    if not is_loopback(host):
        raise ConfigurationError(
            f"without authentication the API listens on loopback only, not on {host}",
            hint="use --auth-mode kubernetes or tokens, or --host 127.0.0.1",
        )
    return _NoAuth()


def _name(host_header: str) -> str:
    """The name or address in a Host header, without port and brackets; empty when it is no such thing."""
    try:
        return urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a name or an address leads to this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
