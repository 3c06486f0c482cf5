"""Where Providers and Secrets come from: a Kubernetes API server, or a folder of manifests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.contract.status import ProviderStatus
from memory_operator.errors import SourceUnavailable

SecretReader = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""(namespace, name) → decoded data of a Secret. Raises SecretMissing, SourceUnavailable."""


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """Something that a person looking at a Provider should see; sent on transitions only."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a look at all served namespaces found. Each of them was listed whole, or is among the failures."""

    providers: Sequence[ProviderObject]
    namespaces: Sequence[str] = ()
    """Those that were listed whole."""
    failures: Mapping[str, SourceUnavailable] = field(default_factory=dict)
    """Why a namespace could not be listed; nobody is absent from it."""

    def whole(self) -> Sequence[ProviderObject]:
        """The Providers of all namespaces. Raises SourceUnavailable where one could not be listed."""
        for failure in self.failures.values():
            raise failure
        return self.providers


class ProviderSource(Protocol):
    """What the operator needs of an API server."""

    def serves(self, namespace: str, /) -> bool:
        """Whether Providers of a namespace are ours to act on."""
        ...

    async def get(self, ref: ProviderRef) -> ProviderObject | None:
        """One Provider, live; None when it does not exist. Raises SourceUnavailable."""
        ...

    async def list(self) -> Listing:
        """All Providers of each served namespace that can be listed. Raises SourceUnavailable where none can be."""
        ...

    async def publish(
        self, ref: ProviderRef, uid: str, status: ProviderStatus, events: Sequence[ProviderEvent]
    ) -> float | None:
        """Write the status, if it differs, send the events and log them. Raises SourceUnavailable.

        Where the status of another installation is left standing: after how many seconds to try again. In a namespace
        that is not served, nothing is sent then either.
        """
        ...
