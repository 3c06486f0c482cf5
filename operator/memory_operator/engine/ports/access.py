"""Who calls, and what a caller asks to do: the words that the HTTP API and the API server's reviews share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from memory_operator.contract.provider import GROUP


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated user, as a TokenReview names it."""

    username: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Access:
    """What a SubjectAccessReview asks; a namespace of None asks for the whole cluster."""

    verb: str
    resource: str
    subresource: str = ""
    namespace: str | None = None
    name: str | None = None
    group: str = GROUP


TokenReviewer = Callable[[str], Awaitable[Caller | None]]
"""Bearer token → its user; None where the token is not valid. Raises SourceUnavailable."""

AccessReviewer = Callable[[Caller, Access], Awaitable[bool]]
"""Whether a user may do something. Raises SourceUnavailable."""
