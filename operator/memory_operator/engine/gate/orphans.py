"""Providers that went away: seen only in a full listing, never in a look-up that failed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.gate.held import OPERATOR, release
from memory_operator.engine.ports.sources import ProviderSource
from memory_operator.logs import get_logger
from memory_operator.store.db import activity
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs
from memory_operator.store.spaces import claims, kept, providers, registry, spaces

log = get_logger(__name__)


class Absences:
    """Orphans the spaces of Providers that are no longer there."""

    def __init__(self, store: Store, source: ProviderSource) -> None:
        self._store = store
        self._source = source

    async def moment(self) -> datetime:
        """The time by the database's clock, to be taken before a listing begins."""
        async with self._store.connection() as conn:
            return await providers.clock(conn)

    async def notice(
        self, present: Collection[ProviderRef], unlisted: Collection[str], before: datetime
    ) -> tuple[list[ProviderRef], bool]:
        """Compare a listing with what is recorded: the newly absent, and whether to list again.

        Nobody is absent from a namespace that could not be listed. What was seen since `before`, when the listing
        began, may have been made after it, and is left for another.
        """
        async with self._store.connection() as conn:
            rows = await providers.all_rows(conn)
        missing = [
            row.ref
            for row in rows
            if row.absent_since is None
            and row.ref not in present
            and row.ref.namespace not in unlisted
            and self._source.serves(row.ref.namespace)
        ]
        gone = [ref for ref in missing if await self._orphan(ref, before)]
        return gone, len(gone) < len(missing)

    async def _orphan(self, ref: ProviderRef, before: datetime) -> bool:
        async with self._store.transaction() as conn:
            was = await registry.lock_registry_exclusive(conn)
            if not await providers.mark_absent(conn, ref, before):
                return False
            await release(conn, ref)
            for space in await spaces.owned(conn, ref):
                if await claims.live_owner(conn, space.id, ref):
                    continue  # another Provider has it by now
                await _orphan_space(conn, space, active=space.id == was.active_space_id)
            await providers.forget(conn, ref)
            await activity.record(conn, OPERATOR, "orphan", str(ref))
            await registry.announce(conn)
        log.info("Provider %s is gone; its vectors stay until they are pruned", ref, extra={"provider": str(ref)})
        return True


async def _orphan_space(conn: Conn, space: spaces.Space, *, active: bool) -> None:
    if space.state == "retired":
        await kept.end(conn, space.id, "its Provider was deleted")
        return
    await jobs.cancel(conn, space.id)
    await spaces.set_state(conn, space.id, "orphaned")
    if active:
        await spaces.deactivate(conn, "provider_deleted", OPERATOR.name)
