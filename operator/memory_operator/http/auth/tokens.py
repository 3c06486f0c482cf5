"""Auth mode `tokens`: a file of token digests, tenants and permissions, which is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastapi import Request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, field_validator

from memory_operator.errors import ConfigurationError
from memory_operator.http.auth.base import (
    PERMISSIONS,
    Authenticator,
    Identity,
    Permission,
    bearer_token,
    unauthenticated,
)
from memory_operator.http.problems import Problem, plain_fault
from memory_operator.http.schemas.base import Name
from memory_operator.logs import get_logger

log = get_logger(__name__)

_PERMISSIONS = frozenset(permission.name for permission in PERMISSIONS)


class _TokenEntry(BaseModel):
    """One token. The token itself is nowhere, so the file gives nobody access who can read it."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    name: Name
    sha256: str
    tenant: Name
    rights: list[str]

    @field_validator("sha256")
    @classmethod
    def _digest(cls, sha256: str) -> str:
        if not _DIGEST.fullmatch(sha256):
            raise ValueError("must be the 64 hexadecimal digits of a SHA-256")
        return sha256.lower()

    @field_validator("rights")
    @classmethod
    def _known(cls, rights: list[str]) -> list[str]:
        unknown = sorted(set(rights) - _PERMISSIONS)
        if unknown:
            raise ValueError(f"there is no right {unknown[0]!r}; rights are {', '.join(sorted(_PERMISSIONS))}")
        return rights


_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_MAX_FILE_BYTES = 4 << 20
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this ago may change once more within the same tick of its file system's clock."""

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
            now = self._path.stat()
            # The time of the last change of the inode cannot be set back, as that of the content can.
            stamp: tuple[int, ...] = (now.st_ctime_ns, now.st_mtime_ns, now.st_size, now.st_ino)
            if stamp == self._stamp:
                return
            self._known, self._stamp = [], ()
            self._known = _read(self._path)
            if time.time_ns() - max(now.st_ctime_ns, now.st_mtime_ns) < _SETTLED_NS:
                stamp = ()
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
        text = _text(path)
        entries = _ENTRIES.validate_python(json.loads(text))
        _refuse_repeated(text, [entry.sha256 for entry in entries])
    except (ValidationError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"the tokens file {path} cannot be used ({_told(error)})",
            hint='it is a JSON list such as [{"name": "ci", "sha256": "…", "tenant": "agents",'
            ' "rights": ["memories:get"]}], with the hex SHA-256 of each token',
        ) from error
    return [(each.sha256, Identity(each.name, each.tenant, permissions=frozenset(each.rights))) for each in entries]


class _Unusable(ValueError):
    """What is wrong with the file as a whole."""


def _text(path: Path) -> str:
    """The content of a regular file: a pipe could keep every request waiting for its writer."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _Unusable("it is not a regular file")
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise _Unusable(f"it has more than {_MAX_FILE_BYTES} bytes")
    return content.decode()


def _refuse_repeated(text: str, digests: Sequence[str]) -> None:
    """A token that is there twice would be whose? Raises _Unusable with the line of the second."""
    twice = next((digest for number, digest in enumerate(digests) if digest in digests[:number]), None)
    if twice is not None:
        lines = [number for number, line in enumerate(text.lower().splitlines(), start=1) if twice in line]
        raise _Unusable(f"line {lines[1] if len(lines) > 1 else lines[0]} has the same token as line {lines[0]}")


def _told(error: Exception) -> str:
    if isinstance(error, _Unusable):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON"
    if not isinstance(error, ValidationError):
        return "it is not JSON"
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"at {place}: {plain_fault(first)}" if place else plain_fault(first)
