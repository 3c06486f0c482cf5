"""What the engine may ask of a cluster about itself: its clock, and who reviews changes of Providers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Registration:
    """A webhook that the API server asks about changes of Providers."""

    name: str
    """Of the configuration that names it."""
    expires: datetime | None
    """When the authority, or the certificate, that it is verified by ends; None where that was not found out."""
    fault: str = ""
    """Why the API server cannot call it."""


class ClusterView(Protocol):
    """A cluster as the process's own rights show it."""

    async def clock(self) -> datetime:
        """The API server's time, to the second. Raises SourceUnavailable."""
        ...

    async def registrations(self) -> Sequence[Registration]:
        """The webhooks that review Providers. Raises SourceUnavailable, NotPermitted."""
        ...
