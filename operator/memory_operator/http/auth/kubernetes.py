"""Auth mode `kubernetes`: tokens and permissions, reviewed by the API server; its answers are cached for a while."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping

from cachetools import TLRUCache
from fastapi import Request

from memory_operator.engine.ports.access import Access, AccessReviewer, Caller, TokenReviewer
from memory_operator.http.auth.base import Authenticator, Identity, Permission, bearer_token, unauthenticated

GRANTED_SECONDS = 60.0
DENIED_SECONDS = 10.0
KEPT = 10_000
"""Reviews of each kind that are remembered, the last asked for."""

_SERVICE_ACCOUNT = "system:serviceaccount:"

_AccessKey = tuple[bytes, Permission, str | None]
"""Digest of a token, what it asks for, and where: no token is kept."""

_UNREVIEWED = Identity("", "")


class _Kubernetes:
    def __init__(self, tokens: TokenReviewer, access: AccessReviewer, clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._access = access
        self._identities = TLRUCache[bytes, Identity | None](KEPT, _end_of_review, clock)
        self._granted = TLRUCache[_AccessKey, bool](KEPT, _end_of_review, clock)

    def screen(self, headers: Mapping[str, str]) -> None:
        """Let every request pass: a page that has no token gets nothing."""

    async def identify(self, request: Request) -> Identity:
        token = bearer_token(request)
        digest = hashlib.sha256(token.encode()).digest()
        identity = self._identities.get(digest, _UNREVIEWED)
        if identity is _UNREVIEWED:
            caller = await self._tokens(token)
            identity = self._identities[digest] = _identity(caller, digest) if caller else None
        if identity is None:
            raise unauthenticated("the API server does not accept the token")
        return identity

    async def may(self, identity: Identity, permission: Permission, namespace: str | None) -> bool:
        if identity.caller is None:
            return False
        key = (identity.token_digest, permission, namespace)
        granted = self._granted.get(key)
        if granted is None:
            access = Access(permission.verb, permission.resource, permission.subresource, namespace)
            granted = self._granted[key] = await self._access(identity.caller, access)
        return granted


def _end_of_review(_key: object, answer: object, now: float) -> float:
    return now + (GRANTED_SECONDS if answer else DENIED_SECONDS)


def kubernetes_auth(
    tokens: TokenReviewer, access: AccessReviewer, clock: Callable[[], float] = time.monotonic
) -> Authenticator:
    """Mode `kubernetes`."""
    return _Kubernetes(tokens, access, clock)


def _identity(caller: Caller, digest: bytes) -> Identity:
    """A ServiceAccount's tenant is its namespace; anybody else is a tenant of their own."""
    if caller.username.startswith(_SERVICE_ACCOUNT):
        namespace = caller.username.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        return Identity(caller.username, namespace, namespace, caller=caller, token_digest=digest)
    return Identity(caller.username, f"user:{caller.username}", caller=caller, token_digest=digest)
