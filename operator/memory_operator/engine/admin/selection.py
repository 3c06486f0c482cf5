"""Spaces whose Providers come from a file that says which one is active: the file and the database say the same."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.admin.spaces import Catalog, SpaceView
from memory_operator.engine.ports.selection import Selection, SelectionFile
from memory_operator.errors import Conflict, MemoryOperatorError, NotFound
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import registry, spaces


class FileCatalog(Catalog):
    """A catalog whose changes are written into the file first.

    The file is what counts: a process that dies between the two finds it at its next start, and follows it.
    """

    def __init__(self, store: Store, file: SelectionFile) -> None:
        super().__init__(store)
        self._file = file

    async def activate(
        self, embedding_version: str | None, provider: str | None, by: Actor, *, force: bool = False
    ) -> SpaceView:
        """Let queries read another space. Raises as Catalog's, and Conflict (config_not_written): nothing changed."""
        async with self._file.locked():
            view = await self.may_activate(embedding_version, provider, force=force)
            async with self._written(view.space.ref):
                return await super().activate(view.space.embedding_version, None, by, force=force)

    async def deactivate(self, by: Actor) -> None:
        """Let queries answer from full-text alone. Raises Conflict (config_not_written): nothing changed."""
        async with self._file.locked(), self._written(None):
            await super().deactivate(by)

    @asynccontextmanager
    async def _written(self, provider: ProviderRef | None) -> AsyncIterator[None]:
        """The file says what is done within; where that fails it says again what it said before."""
        before = await self._file.selection()
        await self._file.select(provider)
        try:
            yield
        except MemoryOperatorError:
            if before is not None:
                with contextlib.suppress(Conflict):
                    await self._restore(before)
            raise

    async def _restore(self, before: Selection) -> None:
        if before.active is not None:
            await self._file.select(before.active)
        if not before.enabled:
            await self._file.select(None)

    async def set_create_enabled(
        self, embedding_version: str | None, provider: str | None, by: Actor, *, enabled: bool
    ) -> SpaceView:
        """Let new memories be embedded for a space, or not. Raises NotFound, Conflict (config_not_written)."""
        async with self._file.locked():
            wanted = await self.named(embedding_version, provider)
            await self._file.set_create_enabled(wanted.space.ref, enabled=enabled)
            return await super().set_create_enabled(wanted.space.embedding_version, None, by, enabled=enabled)

    def selection_waits(self) -> str | None:
        """Why queries do not read yet what the file says."""
        return f"{self._file.name}: {self._file.waits}" if self._file.waits else None

    async def follow(self) -> str | None:
        """Let the database say what the file says; why it cannot yet, or None.

        A space takes the place of one that finds more only by a command: until it covers enough, the other one
        answers. Raises SourceUnavailable, LockBusy, StoreUnavailable.
        """
        async with self._file.locked():
            selection = await self._file.selection()
            waits = None if selection is None else await self._follow(selection, Actor(self._file.name, "dev"))
            self._file.waits = waits
            return waits

    async def _follow(self, selection: Selection, by: Actor) -> str | None:
        async with self._store.connection() as conn:
            now, active = await registry.read(conn), await spaces.active(conn)
        if not selection.enabled:
            if now.inactive_reason != "disabled" or active is not None:
                await super().deactivate(by)
            return None
        if selection.active is None or (active is not None and active.ref == selection.active):
            return None
        name = str(selection.active)
        try:
            worse = active is not None and await self._covers_less(name, active.embedding_version)
            await super().activate(None, name, by, force=not worse)
        except NotFound:
            return f"{name} is to be active, and has no space yet"
        except Conflict as error:
            return f"{name} is to be active: {error.message}"
        return None

    async def _covers_less(self, provider: str, embedding_version: str) -> bool:
        """Whether the space of a Provider has fewer vectors than another one. Raises NotFound."""
        wanted, other = await self.named(None, provider), await self.named(embedding_version, None)
        return wanted.figures.vectors < other.figures.vectors
