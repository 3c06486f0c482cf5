"""Auth mode `kubernetes`: bearer tokens and rights, reviewed by the API server; what it said is kept for a while."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from fastapi import Request

from memory_operator.engine.ports.access import Access, AccessReviewer, Caller, TokenReviewer
from memory_operator.http.auth.base import Authenticator, Identity, Right, bearer_token, unauthenticated

GRANTED_SECONDS = 60.0
DENIED_SECONDS = 10.0
KEPT = 10_000
"""Reviews of each kind that are remembered, the last asked for."""

_SERVICE_ACCOUNT = "system:serviceaccount:"

V = TypeVar("V")


class _Kubernetes:
    def __init__(self, tokens: TokenReviewer, access: AccessReviewer, clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._access = access
        self._identities: _Kept[Identity | None] = _Kept(clock)
        self._answers: _Kept[bool] = _Kept(clock)

    def screen(self, headers: Mapping[str, str]) -> None:
        """Let every request pass: a page that has no token gets nothing."""

    async def identify(self, request: Request) -> Identity:
        token = bearer_token(request)
        digest = hashlib.sha256(token.encode()).digest()
        known = self._identities.get(digest)
        if known is None:
            caller = await self._tokens(token)
            known = (_identity(caller, digest) if caller else None,)
            self._identities.put(digest, known[0], GRANTED_SECONDS if caller else DENIED_SECONDS)
        if known[0] is None:
            raise unauthenticated("the API server does not accept the token")
        return known[0]

    async def may(self, identity: Identity, right: Right, namespace: str | None) -> bool:
        if identity.caller is None:
            return False
        key = (identity.token_digest, right, namespace)
        known = self._answers.get(key)
        if known is None:
            access = Access(right.verb, right.resource, right.subresource, namespace)
            known = (await self._access(identity.caller, access),)
            self._answers.put(key, known[0], GRANTED_SECONDS if known[0] else DENIED_SECONDS)
        return known[0]


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


class _Kept(Generic[V]):
    """A bounded memory whose entries have an end, and are by digest: no token is kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def get(self, key: Hashable) -> tuple[V] | None:
        """What is remembered, in a tuple, since it may be None itself; None when nothing is."""
        if key not in self._entries:
            return None
        until, value = self._entries[key]
        if self._clock() >= until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return (value,)

    def put(self, key: Hashable, value: V, seconds: float) -> None:
        """Remember something for a while."""
        self._entries[key] = (self._clock() + seconds, value)
        self._entries.move_to_end(key)
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)
