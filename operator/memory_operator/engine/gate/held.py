"""Held changes: (Provider, uid, target dimension), from when one is first wanted until another dimension is."""

from __future__ import annotations

from memory_operator.contract.resource import ProviderRef
from memory_operator.errors import ProviderChanged
from memory_operator.store.db import activity
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces import consent, providers
from memory_operator.store.spaces.providers import PendingChange

OPERATOR = Actor("memory-operator", "operator")


async def hold(conn: Conn, change: PendingChange) -> None:
    """Record a held change, or bring its figures up to date, and let the markers recorded in advance of it serve it.

    A change to another dimension ends the one before, and withdraws what served that. Raises ProviderChanged.
    """
    before = await providers.pending_change(conn, change.ref)
    if before is not None and (before.uid, before.effect.to_dim) != (change.uid, change.effect.to_dim):
        await release(conn, change.ref)
    if not await providers.hold(conn, change):
        raise ProviderChanged
    await consent.bind(conn, change.ref, also_unnamed=not await _others(conn, change.ref, change.effect.to_dim))


async def release(conn: Conn, ref: ProviderRef) -> None:
    """End a held change that is no longer asked for, and withdraw the markers that serve it or could."""
    to_dim = await providers.settle(conn, ref)
    if to_dim is None:
        return
    also_unnamed = not await _others(conn, ref, to_dim)
    withdrawn = await consent.withdraw_matching(conn, ref, to_dim, also_unnamed=also_unnamed)
    await activity.record(conn, OPERATOR, "release", str(ref), to_dim=to_dim, markers_withdrawn=withdrawn)


async def _others(conn: Conn, ref: ProviderRef, to_dim: int) -> bool:
    """Whether an unnamed marker for a dimension could mean another Provider."""
    return any(other != ref for other in await providers.providers_targeting(conn, to_dim))
