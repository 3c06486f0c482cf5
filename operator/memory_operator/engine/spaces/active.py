"""The active space as queries find it, and what that means for the semantic channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memory_operator.plan.coverage import coverage
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import registry, spaces
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


async def resolve(store: Store) -> Resolved:
    """The space that queries read now, with its coverage while it is being filled. Raises StoreUnavailable."""
    async with store.connection() as conn:
        space = await spaces.active(conn)
        if space is None:
            why = (await registry.read(conn)).inactive_reason
            return Resolved(None, "disabled" if why == "disabled" else "no_active_space", why)
        if space.state == "ready":
            return Resolved(space, "ok")
        counted, quarantined = await registry.counted(conn), await spaces.quarantined(conn)
    share = coverage(counted.get(space.id, 0), counted.get(registry.CHUNKS, 0), quarantined.get(space.id, 0))
    return Resolved(space, "filling", None, share)
