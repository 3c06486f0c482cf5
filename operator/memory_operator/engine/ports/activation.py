"""Who follows the annotation by which a Provider asks to be activated, and who guards it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from memory_operator.contract.resource import ProviderObject

ActivationGuard = Callable[[], Awaitable[str | None]]
"""Why nobody keeps those from setting the annotation who may not activate; None where somebody does.

Raises SourceUnavailable.
"""


class ActivationRequests(Protocol):
    """What a reconcile calls once a Provider's status is published."""

    async def follow(self, provider: ProviderObject) -> None:
        """Act on the annotation where its value changed. Raises SourceUnavailable, StoreUnavailable, LockBusy."""
        ...
