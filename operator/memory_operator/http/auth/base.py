"""Who calls, which tenant that is, and what they may do: the words that all auth modes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request

from memory_operator.contract.provider import PLURAL
from memory_operator.engine.ports.access import Caller
from memory_operator.http.problems import Problem


@dataclass(frozen=True, slots=True)
class Permission:
    """Something that a caller may do: its name in a tokens file, and what RBAC calls it."""

    name: str
    verb: str
    resource: str
    subresource: str = ""

    @property
    def what(self) -> str:
        """The resource as a Role names it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


CONSENT = Permission("consent", "create", PLURAL, "consent")
ACTIVATE = Permission("activate", "create", PLURAL, "activate")
JOBS = Permission("jobs", "create", PLURAL, "jobs")
READ = Permission("read", "get", PLURAL)
"""Spaces, status, jobs, held changes and markers: what `kubectl get providers` shows, and more of it."""
WRITE_MEMORIES = Permission("memories:create", "create", "memories")
READ_MEMORIES = Permission("memories:get", "get", "memories")
DELETE_MEMORIES = Permission("memories:delete", "delete", "memories")
PERMISSIONS = (CONSENT, ACTIVATE, JOBS, READ, WRITE_MEMORIES, READ_MEMORIES, DELETE_MEMORIES)


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller."""

    name: str
    tenant: str
    namespace: str | None = None
    """The tenant's namespace, where it has one."""
    permissions: frozenset[str] = frozenset()
    """Their names, in mode `tokens`."""
    caller: Caller | None = None
    """In mode `kubernetes`."""
    token_digest: bytes = field(default=b"", repr=False)


class Authenticator(Protocol):
    """One auth mode."""

    def screen(self, headers: Mapping[str, str]) -> None:
        """Look at every request, also of the routes that are open. Raises Problem (403)."""
        ...

    async def identify(self, request: Request, /) -> Identity:
        """The caller of a request. Raises Problem (401), SourceUnavailable."""
        ...

    async def may(self, identity: Identity, permission: Permission, namespace: str | None, /) -> bool:
        """Whether a caller has a permission in a namespace; None asks for all of them. Raises SourceUnavailable."""
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
