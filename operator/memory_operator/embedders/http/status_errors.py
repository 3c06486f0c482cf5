"""What a vendor's HTTP status means to us. No text of a reply gets into a message."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from memory_operator.embedders.http.transport import Reply
from memory_operator.errors import (
    CredentialRefused,
    EmbedderUnreachable,
    MemoryOperatorError,
    ModelGone,
    RateLimited,
    RequestRejected,
)

ABOUT_THE_TEXTS = frozenset({400, 413, 422})
"""Statuses by which a vendor refuses what is in the request: another batch may well pass."""


def refusal(reply: Reply, *, host: str, model: str) -> MemoryOperatorError:
    """The error that a reply other than a success stands for.

    Args:
        reply: status and headers are used, the body is not.
        host: who replied, without user and path.
        model: as the Provider names it.
    """
    answered = f"{host} answered {_status_line(reply.status)}"
    match reply.status:
        case 401 | 403:
            return refused_key(reply, host=host)
        case 404 | 410:
            return about_the_model(reply, host=host, model=model)
        case 408 | 429:
            return RateLimited(
                answered,
                hint="a limit or a quota of the vendor is used up; it is tried again after a pause",
                retry_after=retry_after(reply.headers),
            )
        case status if status in ABOUT_THE_TEXTS:
            return RequestRejected(
                answered,
                hint="a text may be too long or empty for the model, or the batch too large for the server",
            )
        case status if 300 <= status < 400:
            return RequestRejected(
                f"{answered}, a redirect, which is not followed",
                hint="set spec.baseURL to the address that the server redirects to",
                about_the_texts=False,
            )
        case status if 400 <= status < 500:
            return RequestRejected(
                answered, hint="check spec.baseURL, spec.model and the account", about_the_texts=False
            )
        case _:
            return EmbedderUnreachable(
                answered,
                hint="the embedding server has a problem of its own; it is tried again",
                retry_after=retry_after(reply.headers),
            )


def refused_key(reply: Reply, *, host: str) -> CredentialRefused:
    """The error for a reply that is about the key, whatever its status."""
    return CredentialRefused(
        f"{host} answered {_status_line(reply.status)}",
        hint="check the key in the Secret that spec.credential names: wrong, revoked or without rights",
    )


def about_the_model(reply: Reply, *, host: str, model: str) -> RequestRejected:
    """The error for a reply that says that there is no such model, whatever its status.

    ModelGone where the vendor itself speaks of the model, in JSON: a proxy that knows no such path does not.
    """
    speaks_of_it = reply.body.lstrip().startswith(b"{") and reply.mentions("model", "deployment")
    kind = ModelGone if speaks_of_it else RequestRejected
    return kind(
        f"{host} answered {_status_line(reply.status)}: no model {_shown(model)} or no embedding API at this base URL",
        hint="check spec.model and spec.baseURL; an Ollama model must be pulled first",
        about_the_texts=False,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks to wait, from either of its forms; None when it does not say."""
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "").strip()
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, LookupError, ArithmeticError):  # what the reader of dates raises for absurd ones
        return None


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _shown(model: str) -> str:
    """A model's name for a message: printable, bounded."""
    name = "".join(character if character.isprintable() else "?" for character in model)
    return repr(name if len(name) <= 100 else name[:97] + "...")
