"""Tokens for Azure from the workload identity of this process: no key is stored anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from memory_operator.embedders.http.endpoint import Endpoint, host_of
from memory_operator.embedders.http.json import json_object
from memory_operator.embedders.http.status_errors import refusal
from memory_operator.embedders.http.transport import Reply, Wire
from memory_operator.errors import (
    BadReply,
    ConfigurationError,
    CredentialRefused,
    EmbedderUnreachable,
    MemoryOperatorError,
    RateLimited,
    Retryable,
)

TENANT, CLIENT = "AZURE_TENANT_ID", "AZURE_CLIENT_ID"
TOKEN_FILE, AUTHORITY = "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"
PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
EARLY_SECONDS = 300.0
"""A token is replaced so long before it expires, or after half of its life where that is shorter."""
_REPLY_BYTES = 65_536
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    renew_at: float
    """Time of the event loop, in seconds."""
    expires_at: float


class WorkloadIdentity:
    """Exchanges the token that the cluster gives this process for one that Azure takes; kept in memory only.

    Belongs to one event loop, as the `Wire` that it is given.
    """

    def __init__(self, wire: Wire, environment: Mapping[str, str]) -> None:
        self._wire = wire
        self._environment = environment
        self._tokens: dict[str, _Token] = {}
        self._exchanging = asyncio.Lock()

    async def token(self, scope: str, timeout: float) -> str:
        """A token for `scope` that is still valid for a while.

        Args:
            scope: what it is for, such as `https://cognitiveservices.azure.com/.default`.
            timeout: seconds; the caller bounds the whole.

        Raises:
            ConfigurationError: this process has no workload identity.
            CredentialRefused: the authority does not accept it.
            EmbedderUnreachable, RateLimited, BadReply: the authority gave no token.
        """
        async with self._exchanging:
            now = asyncio.get_running_loop().time()
            kept = self._tokens.get(scope)
            if kept is not None and now < kept.renew_at:
                return kept.value
            try:
                fresh = self._tokens[scope] = await self._exchanged(scope, timeout)
            except Retryable:
                if kept is not None and now < kept.expires_at:
                    return kept.value
                raise
            return fresh.value

    def forget(self, scope: str) -> None:
        """Exchange anew at the next call: the token was not accepted."""
        self._tokens.pop(scope, None)

    async def _exchanged(self, scope: str, timeout: float) -> _Token:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._setting(CLIENT),
            "scope": scope,
            "client_assertion_type": _ASSERTION,
            "client_assertion": await asyncio.to_thread(self._assertion),
        }
        requested_at = asyncio.get_running_loop().time()
        target = self._target()
        reply = await self._wire.post(
            target, urlencode(form).encode(), ca_pem=None, cap=_REPLY_BYTES, timeout=timeout, sending=_nobody_counts
        )
        if not reply.ok:
            raise _refused(reply, target.host)
        answer = json_object(reply.body, target.host)
        value, seconds = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not value or type(seconds) is not int or seconds <= 0:
            raise BadReply(f"{target.host} sent a reply without a token", hint=f"check {AUTHORITY} of this process")
        return _Token(value, requested_at + max(seconds - EARLY_SECONDS, seconds / 2), requested_at + seconds)

    def _target(self) -> Endpoint:
        authority = self._environment.get(AUTHORITY, "").strip().rstrip("/") or PUBLIC_AUTHORITY
        parts = urlsplit(authority)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigurationError(f"{AUTHORITY} of this process is not a URL", hint="unset it, or correct it")
        url = f"{authority}/{quote(self._setting(TENANT), safe='')}/oauth2/v2.0/token"
        return Endpoint(host_of(authority), url, {"content-type": "application/x-www-form-urlencoded"})

    def _assertion(self) -> str:
        try:
            return Path(self._setting(TOKEN_FILE)).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise ConfigurationError(
                f"The file that {TOKEN_FILE} names cannot be read ({why})", hint=_HOW_TO_GET_ONE
            ) from None

    def _setting(self, name: str) -> str:
        value = self._environment.get(name, "").strip()
        if not value:
            raise ConfigurationError(f"This process has no workload identity: {name} is not set", hint=_HOW_TO_GET_ONE)
        return value


_HOW_TO_GET_ONE = (
    'label the pod azure.workload.identity/use: "true" and annotate its ServiceAccount with the client id, '
    "or use spec.auth.type accessKey"
)


async def _nobody_counts() -> None:
    """An exchange of tokens costs nothing."""


def _refused(reply: Reply, host: str) -> MemoryOperatorError:
    standard = refusal(reply, host=host, model="")
    if isinstance(standard, (EmbedderUnreachable, RateLimited)):
        return standard
    return CredentialRefused(
        f"{host} answered {reply.status} and gave no token for the workload identity",
        hint="check the identity's federated credential (issuer, subject, audience), its client id and tenant id",
    )
