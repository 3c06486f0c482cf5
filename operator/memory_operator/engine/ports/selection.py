"""A file that says which Provider's space queries read: what a command changes is written into it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from memory_operator.contract.resource import ProviderRef


@dataclass(frozen=True, slots=True)
class Selection:
    """What the file says."""

    enabled: bool
    """False: queries answer from full-text alone."""
    active: ProviderRef | None
    """None where it names no Provider at all."""


class SelectionFile(Protocol):
    """What the engine needs of such a file."""

    name: str
    """For messages and the history."""
    waits: str | None
    """Why the database does not say yet what the file says; kept by who makes it follow."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Lets nobody else of this process compare or change file and database. Raises LockBusy."""
        ...

    async def selection(self) -> Selection | None:
        """What the file says; None where nothing in it could be read so far. Raises SourceUnavailable."""
        ...

    async def select(self, provider: ProviderRef | None) -> None:
        """Write which Provider is active; None: semantic search is off.

        Raises Conflict (config_not_written): nothing was changed.
        """
        ...

    async def set_create_enabled(self, provider: ProviderRef, *, enabled: bool) -> None:
        """Write whether new memories are embedded for a Provider. Raises as `select`."""
        ...
