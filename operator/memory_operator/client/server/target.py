"""Where the server is. Apart from what calls it, since `--help` and many a mistake need no HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from memory_operator.client.errors import MisuseError

DEFAULT_SERVER = "http://127.0.0.1:8080"
SERVER_HINT = f"name one with --server or MEMORY_API, such as {DEFAULT_SERVER}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is, and the bearer token that it wants."""

    url: str
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be called. The address is not repeated where it holds a password."""
        try:
            parts = urlsplit(self.url)
            port_is_a_number = parts.port is None or parts.port > 0
        except ValueError:
            raise MisuseError("the server's address is not a URL", SERVER_HINT) from None
        if parts.username is not None or parts.password is not None:
            raise MisuseError("the server's address holds a user or a password", "put the token into MEMORY_TOKEN")
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise MisuseError("the bearer token holds characters that no token has", "it is one line without spaces")
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_a_number:
            raise MisuseError(f"{self.url!r} is not an http or https URL", SERVER_HINT)

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
