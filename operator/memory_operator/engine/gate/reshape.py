"""The gate's far side: replace a Provider's space by one of another dimension, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from memory_operator.engine.gate import held
from memory_operator.engine.spaces.activation import activate, activate_if_first, catch_up
from memory_operator.errors import LockBusy, NeedsConsent, ProviderChanged
from memory_operator.logs import get_logger
from memory_operator.plan.consent import Marker
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db import activity, locks
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs
from memory_operator.store.spaces import claims, consent, credentials, providers, registry, spaces, vectors
from memory_operator.store.spaces.spaces import Owner, Space

log = get_logger(__name__)

LOCK_TIMEOUT_MS = 100
"""How long a change may stand in a lock's queue; all that comes later stands behind it."""


_CHUNKS = "memory_chunks"
"""Making and dropping a space's table also takes the one that its foreign key leads to."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A decision, as it is carried out."""

    owner: Owner
    config: SpaceConfig
    existing_id: int | None
    actor: Actor


async def create(store: Store, change: Change) -> Space:
    """Give a Provider its first space, new or left behind, and start its fill. Raises LockBusy, ProviderChanged."""

    async def work(conn: Conn) -> Space:
        row = await _lock_owner(conn, change.owner)
        space = await _take(conn, change)
        await providers.repoint(conn, change.owner.ref, applied=space.id, beside=row.beside_space_id)
        await activate_if_first(conn, space, change.actor)
        await activity.record(conn, change.actor, "create", space.embedding_version, provider=str(space.ref))
        await registry.announce(conn)
        return space

    return await _change(store, (_CHUNKS,), work)


async def fill_beside(store: Store, change: Change) -> Space:
    """Start filling another space beside the applied one. Raises LockBusy, ProviderChanged."""

    async def work(conn: Conn) -> Space:
        row = await _lock_owner(conn, change.owner)
        if row.beside_space_id is not None and row.beside_space_id != change.existing_id:
            await retire(conn, row.beside_space_id)
        space = await _take(conn, change)
        if space.state == "ready":
            await catch_up(conn, space)  # whose end is what switches
        await providers.repoint(conn, change.owner.ref, applied=row.applied_space_id, beside=space.id)
        await activity.record(conn, change.actor, "fill beside", space.embedding_version, provider=str(space.ref))
        await registry.announce(conn)
        return space

    return await _change(store, (_CHUNKS,), work)


async def _change(store: Store, tables: Sequence[str], work: Callable[[Conn], Awaitable[T]]) -> T:
    """Run a change in a transaction that stands in no lock's queue for long. Raises LockBusy.

    Only for an autovacuum it waits longer, once: that gives way, and would else hold a change up for as long as it
    takes.
    """
    try:
        async with store.transaction(lock_timeout_ms=LOCK_TIMEOUT_MS) as conn:
            return await work(conn)
    except LockBusy:
        async with store.connection() as conn:
            patience = await locks.patience_ms(conn, tables)
        if patience is None:
            raise
    async with store.transaction(lock_timeout_ms=patience) as conn:
        return await work(conn)


async def keep(store: Store, change: Change, applied: Space, beside: Space | None) -> None:
    """Let the applied space be this Provider's as it is now, and end what is filled beside it.

    Raises LockBusy, ProviderChanged (the one beside has taken its place meanwhile).
    """
    async with store.transaction() as conn:
        await _still(conn, change.owner, applied, beside)
        await spaces.reown(conn, applied.id, change.owner)
        await _end_beside(conn, change.owner, applied, beside)
        await registry.announce(conn)


async def end_beside(store: Store, change: Change, applied: Space, beside: Space) -> None:
    """End the fill of a space beside the applied one that its Provider no longer asks for. Raises as `keep` does."""
    async with store.transaction() as conn:
        await _still(conn, change.owner, applied, beside)
        await _end_beside(conn, change.owner, applied, beside)
        await registry.announce(conn)


async def complete_again(store: Store, change: Change, applied: Space, beside: Space) -> None:
    """Let a full space beside the applied one be completed once more, whose end switches. Raises as `keep` does."""
    async with store.transaction() as conn:
        await _still(conn, change.owner, applied, beside)
        await catch_up(conn, beside)
        await registry.announce(conn)


async def _still(conn: Conn, owner: Owner, applied: Space, beside: Space | None) -> None:
    """See that a Provider still has the spaces that were decided on: a fill may have ended and switched meanwhile."""
    row = await _lock_owner(conn, owner)
    if (row.applied_space_id, row.beside_space_id) != (applied.id, beside.id if beside else None):
        raise ProviderChanged


async def _end_beside(conn: Conn, owner: Owner, applied: Space, beside: Space | None) -> None:
    if beside is not None:
        await retire(conn, beside.id)
        await providers.repoint(conn, owner.ref, applied=applied.id, beside=None)


async def reshape(store: Store, change: Change, old: Space, marker_id: int | None) -> int:
    """Replace `old`, consuming the marker; how many vectors were discarded.

    Raises LockBusy (with the blockers), NeedsConsent (there are vectors, and the marker is gone), ProviderChanged.
    """
    table = vectors.table(old.id)
    async with store.connection() as conn:
        await locks.end_own_work(conn, table)
    try:
        return await _change(store, (_CHUNKS, table), lambda conn: _replace(conn, change, old, marker_id))
    except LockBusy as busy:
        async with store.connection() as conn:
            found = await locks.blockers(conn, table) or await locks.blockers(conn, _CHUNKS)
        raise LockBusy(
            f"the change waits for a lock on {table} held by {'; '.join(found) or 'a short query'}",
            hint="it is tried again by itself; end the session that holds the lock to let it through",
            blockers=found,
        ) from busy


async def _replace(conn: Conn, change: Change, old: Space, marker_id: int | None) -> int:
    row = await _lock_owner(conn, change.owner)
    if row.applied_space_id != old.id:
        raise ProviderChanged
    await vectors.lock_for_discard(conn, old.id)
    discarded = await vectors.count(conn, old.id)
    marker = await _consume(conn, change.owner, change.config.dimensions, marker_id) if discarded else None
    was_active = (await registry.read(conn)).active_space_id == old.id
    if row.beside_space_id is not None:
        await retire(conn, row.beside_space_id)
    space = await _take(conn, change)  # always a new one: one that is there would be filled beside
    await providers.repoint(conn, change.owner.ref, applied=space.id, beside=None)
    if marker is None:
        await held.release(conn, change.owner.ref)  # a consent that was not needed does not outlive its change
    else:
        await providers.settle(conn, change.owner.ref)
    if was_active:
        await activate(conn, space, change.actor)
    await spaces.discard(conn, old)
    await activity.record(
        conn,
        change.actor,
        "reshape",
        space.embedding_version,
        provider=str(space.ref),
        before=old.embedding_version,
        from_dim=old.dimensions,
        to_dim=space.dimensions,
        vectors_discarded=discarded,
        marker=marker.id if marker else None,
        consented_by=marker.created_by if marker else None,
    )
    await registry.announce(conn)
    return discarded


async def _consume(conn: Conn, owner: Owner, dimension: int, marker_id: int | None) -> Marker:
    """Use the marker up that serves this change. Raises NeedsConsent."""
    marker = None if marker_id is None else await consent.lock_valid(conn, marker_id, owner.ref)
    if marker is None or marker.target_dim != dimension or not await _is_for(conn, marker, owner, dimension):
        raise NeedsConsent("the marker that allowed this change is no longer valid")
    await consent.consume(conn, marker, owner.ref)
    return marker


async def _is_for(conn: Conn, marker: Marker, owner: Owner, dimension: int) -> bool:
    if marker.serves != "any":
        return marker.serves == "this"
    if marker.provider is not None:
        return marker.provider == str(owner.ref)
    return {*await providers.providers_targeting(conn, dimension)} <= {owner.ref}


async def _lock_owner(conn: Conn, owner: Owner) -> providers.ProviderRow:
    """Lock the registry and the Provider's row; the row, which is still what was decided on. Raises ProviderChanged."""
    await registry.lock_registry_exclusive(conn)
    row = await providers.lock(conn, owner.ref)
    if row is None or row.absent_since is not None or (row.uid, row.generation) != (owner.uid, owner.generation):
        raise ProviderChanged
    return row


async def _take(conn: Conn, change: Change) -> Space:
    """The space to fill: one that exists already, where no other live Provider has it, or a new one.

    Raises ProviderChanged (another Provider was quicker).
    """
    existing = None if change.existing_id is None else await spaces.get(conn, change.existing_id)
    if existing is not None and await claims.live_owner(conn, existing.id, change.owner.ref):
        raise ProviderChanged
    if existing is None:
        if await spaces.by_identity(conn, change.config.identity):
            raise ProviderChanged
        space = await spaces.create(conn, change.owner, change.config)
        await jobs.start(conn, space.id)
        return space
    await providers.release_space(conn, existing.id)
    await spaces.reown(conn, existing.id, change.owner)
    await spaces.refresh_config(conn, existing.id, change.config)
    await credentials.set_moved(conn, existing.id, moved=False)
    await revive(conn, existing)
    return existing


async def revive(conn: Conn, space: Space) -> None:
    """Let an orphaned or retired space take part again: what it missed meanwhile is filled, nothing else."""
    if space.state in ("orphaned", "retired"):
        await spaces.set_state(conn, space.id, "filling")
        await jobs.start(conn, space.id)


async def retire(conn: Conn, space_id: int) -> None:
    """Stop filling a space that its Provider no longer asks for; its vectors are kept until it is pruned."""
    await jobs.cancel(conn, space_id)
    await spaces.set_state(conn, space_id, "retired")


async def reattach(store: Store, owner: Owner, applied: Space, actor: Actor) -> None:
    """Give an orphaned space back to the Provider that came back: nothing is embedded but what it missed.

    Raises LockBusy, ProviderChanged (it was pruned meanwhile).
    """
    async with store.transaction() as conn:
        row = await _lock_owner(conn, owner)
        if row.applied_space_id != applied.id:
            raise ProviderChanged
        await revive(conn, applied)
        await activate_if_first(conn, applied, actor)
        await activity.record(conn, actor, "reattach", applied.embedding_version, provider=str(applied.ref))
        await registry.announce(conn)
