"""Auth mode `tokens`: a file of token digests, tenants and permissions, which is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from memory_operator.errors import ConfigurationError
from memory_operator.http.auth.base import (
    PERMISSIONS,
    Authenticator,
    Identity,
    Permission,
    bearer_token,
    unauthenticated,
)
from memory_operator.http.problems import Problem
from memory_operator.logs import get_logger

log = get_logger(__name__)

_PERMISSIONS = frozenset(permission.name for permission in PERMISSIONS)


class _TokenEntry(BaseModel):
    """One token. The token itself is nowhere, so the file gives nobody access who can read it."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    tenant: Annotated[str, Field(min_length=1, max_length=253)]
    rights: list[str]

    @field_validator("rights")
    @classmethod
    def _known(cls, rights: list[str]) -> list[str]:
        unknown = sorted(set(rights) - _PERMISSIONS)
        if unknown:
            raise ValueError(f"there is no right {unknown[0]!r}; rights are {', '.join(sorted(_PERMISSIONS))}")
        return rights


_ENTRIES = TypeAdapter(list[_TokenEntry])


class _Tokens:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._known: list[tuple[str, Identity]] = []
        self.reload()

    def screen(self, headers: Mapping[str, str]) -> None:
        """Let every request pass: a page that has no token gets nothing."""

    def reload(self) -> None:
        """Read the file again if it has changed. Raises ConfigurationError, and nobody is known until it is mended."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return
            self._known, self._stamp = [], ()
            self._known = _read(self._path)
        except OSError as error:
            raise ConfigurationError(
                f"the tokens file {self._path} cannot be read ({error.strerror})",
                hint="give this process the right to read it, or name another with --tokens-file",
            ) from error
        self._stamp = stamp

    async def identify(self, request: Request) -> Identity:
        digest = hashlib.sha256(bearer_token(request).encode()).hexdigest()
        try:
            self.reload()
        except ConfigurationError as error:
            log.error("nobody can log in: %s; %s", error.message, error.hint)  # noqa: TRY400 - the text says it all
            raise Problem(
                503, "tokens_unreadable", "the tokens file cannot be used", hint="the server's log says what is wrong"
            ) from None
        found = None
        for known, identity in self._known:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(known, digest):
                found = identity
        if found is None:
            raise unauthenticated("the token is not known")
        return found

    async def may(self, identity: Identity, permission: Permission, _namespace: str | None) -> bool:
        return permission.name in identity.permissions


def token_auth(path: Path | None) -> Authenticator:
    """Mode `tokens`. Raises ConfigurationError."""
    if path is None:
        raise ConfigurationError("auth mode tokens needs a file", hint="name it with --tokens-file")
    return _Tokens(path)


def _read(path: Path) -> list[tuple[str, Identity]]:
    try:
        entries = _ENTRIES.validate_python(json.loads(path.read_bytes()))
    except (ValidationError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"the tokens file {path} cannot be used ({_told(error)})",
            hint='it is a JSON list such as [{"name": "ci", "sha256": "…", "tenant": "agents",'
            ' "rights": ["memories:get"]}], with the hex SHA-256 of each token',
        ) from error
    return [
        (each.sha256.lower(), Identity(each.name, each.tenant, permissions=frozenset(each.rights))) for each in entries
    ]


def _told(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "it is not JSON"
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"at {place}: {first['msg']}" if place else str(first["msg"])
