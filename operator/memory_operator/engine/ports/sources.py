"""Where Providers and Secrets come from: a Kubernetes API server, or a folder of manifests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.contract.status import ProviderStatus

SecretReader = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""(namespace, name) → decoded data of a Secret. Raises SecretMissing, SourceUnavailable."""


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """Something that a person looking at a Provider should see; sent on transitions only."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class ProviderSource(Protocol):
    """What the operator needs of an API server."""

    def serves(self, namespace: str, /) -> bool:
        """Whether Providers of a namespace are ours to act on."""
        ...

    async def get(self, ref: ProviderRef) -> ProviderObject | None:
        """One Provider, live; None when it does not exist. Raises SourceUnavailable."""
        ...

    async def list(self) -> list[ProviderObject]:
        """All Providers of the served namespaces, complete. Raises SourceUnavailable."""
        ...

    async def publish(
        self, ref: ProviderRef, uid: str, status: ProviderStatus, events: Sequence[ProviderEvent]
    ) -> None:
        """Write the status, if it differs, send the events and log them. Raises SourceUnavailable."""
        ...
