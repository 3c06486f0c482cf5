"""Auth mode `none`: everybody on this machine is the one tenant, and nobody else may call."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import Request

from memory_operator.errors import ConfigurationError
from memory_operator.http.auth.base import Authenticator, Identity, Permission
from memory_operator.http.problems import Problem


class _NoAuth:
    """A page in a browser is not somebody on this machine."""

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

    async def identify(self, _request: Request) -> Identity:
        return Identity("local", "default")

    async def may(self, _identity: Identity, _permission: Permission, _namespace: str | None) -> bool:
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
