"""The active space as queries find it, and what that means for the semantic channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from memory_operator.errors import Conflict, NotFound
from memory_operator.plan.coverage import coverage
from memory_operator.store.db.listen import listen
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import quarantine
from memory_operator.store.spaces import registry, rerank_apis, spaces
from memory_operator.store.spaces.rerank_apis import RerankApi
from memory_operator.store.spaces.spaces import Space

SemanticStatus = Literal["ok", "filling", "no_active_space", "embedder_unavailable", "disabled"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """The active space as a query found it, once."""

    space: Space | None
    status: SemanticStatus
    reason: str | None = None
    coverage: float | None = None
    """Given while the space is being filled."""
    rerank: RerankApi | None = None
    """How the rerank API of the space's Provider is called, where it has one."""


class ActiveSpace:
    """The active space as a process last saw it. A ready one is looked up again once a search finds it changed.

    Each search says by itself whether what it read is active (`nearest.nearest`), so that a stale one costs a retry
    and gives no answer. One whose Provider has a rerank API is looked up for each query, as texts are sent there. One
    for each event loop.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ready: Resolved | None = None

    async def resolve(self, embedding_version: str | None = None, *, anew: bool = False) -> Resolved:
        """As the function `resolve`; `anew` where no search follows that would notice a change. Raises as that."""
        if embedding_version is not None:
            return await resolve(self._store, embedding_version)
        if self._ready is not None and not anew:
            return self._ready
        found = await resolve(self._store)
        self._ready = None
        if found.space is not None and found.status == "ok" and found.rerank is None:
            # By the time that it is used again, its Provider may name another vendor: only the credential that worked
            # with this one is sent to it, and where that is another by now the space is looked up first.
            self._ready = replace(found, space=replace(found.space, credential_moved=True))
        return found

    async def follow(self) -> None:
        """Forget the space whenever spaces are said to have changed, until cancelled: saves the retry, and a call."""
        async for _ in listen(self._store, "memory-api-listen", [registry.CHANNEL]):
            self._ready = None


async def resolve(store: Store, embedding_version: str | None = None) -> Resolved:
    """The space that queries read now, or the one that a query names; with its coverage while it is being filled.

    Raises StoreUnavailable; for a named space NotFound, Conflict (space_retired, space_orphaned).
    """
    async with store.connection() as conn:
        space = await (_named(conn, embedding_version) if embedding_version else spaces.active(conn))
        if space is None:
            why = (await registry.read(conn)).inactive_reason
            return Resolved(None, "disabled" if why == "disabled" else "no_active_space", why)
        rerank = await rerank_apis.find(conn, space.ref)
        if space.state == "ready":
            return Resolved(space, "ok", rerank=rerank)
        counted, quarantined = await registry.counted(conn), await quarantine.counted(conn)
    share = coverage(counted.get(space.id, 0), counted.get(registry.CHUNKS, 0), quarantined.get(space.id, 0))
    return Resolved(space, "filling", None, share, rerank)


async def _named(conn: Conn, embedding_version: str) -> Space:
    space = await spaces.by_version(conn, embedding_version)
    listed = "GET /v1/embeddings/spaces lists them"
    if space is None:
        raise NotFound(f"there is no space {embedding_version}", hint=listed)
    if not space.gets_vectors:
        raise Conflict(
            f"space {embedding_version} is {space.state}: its Provider no longer asks for it",
            code=f"space_{space.state}",
            hint=f"name a space that is in use; {listed}",
        )
    return space
