"""Where a call goes: base URL, headers, credential, all checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from memory_operator.errors import ConfigurationError
from memory_operator.plan.space import CallConfig

_AUTHORIZATION = "authorization"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_FRAMING = frozenset(
    {
        *("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "forwarded"),
        *("host", "http2-settings", "keep-alive", "max-forwards", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via"),
    }
)
"""Headers of the connection (hop by hop), of its target, or of the body that we write: a Provider cannot set them."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One URL to post to. Its repr and its messages show the host only: a path may hold an account."""

    host: str
    """Host, with the port where the URL has one; no userinfo."""
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def endpoint(config: CallConfig, path: str, credential: str | None, *, key_header: str = _AUTHORIZATION) -> Endpoint:
    """Where calls under `config` go, with the credential as a bearer token or in a header of the vendor's own.

    Args:
        config: its effective base URL is used as it is, without a default.
        path: what follows the base URL, starting with a slash.
        credential: the key; None sends none. It replaces such a header of the Provider's own.
        key_header: name of the header, in lower case.

    Raises:
        ConfigurationError: no usable base URL, or a header or key that HTTP cannot carry.
    """
    url = _checked_base_url(config)
    headers = _checked_headers(config.headers)
    if credential is not None:
        key = _checked_credential(credential)
        headers[key_header] = f"Bearer {key}" if key_header == _AUTHORIZATION else key
    return Endpoint(host=host_of(url), url=url + path, headers=headers)


def host_of(base_url: str) -> str:
    """Host and, where given, port of a URL: what messages may show of it."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port}" if parts.port is not None else shown


def _checked_base_url(config: CallConfig) -> str:
    if not config.base_url:
        raise ConfigurationError(
            f"Provider type {config.type} needs a base URL", hint="set spec.baseURL to the embedding server"
        )
    wanted = "give spec.baseURL as https://host[:port][/path], without user, query and fragment"
    url = config.base_url.rstrip("/")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises on a port that is no number
    except ValueError:
        raise ConfigurationError("The base URL cannot be read", hint=wanted) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ConfigurationError("The base URL is not an http or https URL", hint=wanted)
    if " " in url or "?" in url or "#" in url or "@" in parts.netloc:
        raise ConfigurationError("The base URL has a user, a query, a fragment or a blank in it", hint=wanted)
    return url


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for number, (name, value) in enumerate(headers.items(), start=1):
        if not _TOKEN.fullmatch(name):
            raise ConfigurationError(
                f"The name of header {number} cannot be used in HTTP", hint="correct it in spec.headers"
            )
        if name.lower() in _FRAMING:
            raise ConfigurationError(f"Header {name} cannot be set by a Provider", hint="remove it from spec.headers")
        # The value is checked here because the HTTP library would quote it in its error.
        if value and not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"The value of header {name} cannot be sent in HTTP",
                hint="header values in spec.headers are printable ASCII on one line",
            )
        checked[name.lower()] = value
    return checked


def _checked_credential(credential: str) -> str:
    # A Secret made from a file often ends in a line break that is no part of the key.
    key = credential.strip()
    if not key or " " in key or not _HEADER_VALUE.fullmatch(key) or "\t" in key:
        raise ConfigurationError(
            "The credential is empty or has characters that a key cannot have",
            hint="check the Secret's value: one line of printable ASCII, without quotes or blanks",
        )
    return key
