"""The active space as queries find it, and what that means for the semantic channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memory_operator.errors import Conflict, NotFound
from memory_operator.plan.coverage import coverage
from memory_operator.plan.space import RerankConfig
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import providers, registry, spaces
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
    rerank: RerankConfig | None = None
    """How the rerank API of the space's Provider is called, where it has one."""


async def resolve(store: Store, embedding_version: str | None = None) -> Resolved:
    """The space that queries read now, or the one that a query names; with its coverage while it is being filled.

    Raises StoreUnavailable; for a named space NotFound, Conflict (space_retired, space_orphaned).
    """
    async with store.connection() as conn:
        space = await (_named(conn, embedding_version) if embedding_version else spaces.active(conn))
        if space is None:
            why = (await registry.read(conn)).inactive_reason
            return Resolved(None, "disabled" if why == "disabled" else "no_active_space", why)
        rerank = await providers.rerank(conn, space.ref)
        if space.state == "ready":
            return Resolved(space, "ok", rerank=rerank)
        counted, quarantined = await registry.counted(conn), await spaces.quarantined(conn)
    share = coverage(counted.get(space.id, 0), counted.get(registry.CHUNKS, 0), quarantined.get(space.id, 0))
    return Resolved(space, "filling", None, share, rerank)


async def _named(conn: Conn, embedding_version: str) -> Space:
    space = await spaces.by_version(conn, embedding_version)
    listed = "GET /v1/embeddings/spaces lists them"
    if space is None:
        raise NotFound(f"there is no space {embedding_version}", hint=listed)
    if space.state not in spaces.ACTIVE_STATES:
        raise Conflict(
            f"space {embedding_version} is {space.state}: its Provider no longer asks for it",
            code=f"space_{space.state}",
            hint=f"name a space that is in use; {listed}",
        )
    return space
