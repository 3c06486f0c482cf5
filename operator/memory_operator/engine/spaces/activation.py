"""Who is active: a store's first space, the flip to another, the switch from an applied space to the one beside."""

from __future__ import annotations

from collections.abc import Mapping

from memory_operator.store.db import activity
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import control, jobs
from memory_operator.store.jobs.parts import Part
from memory_operator.store.spaces import credentials, kept, providers, registry, spaces
from memory_operator.store.spaces.spaces import ACTIVE_STATES as ACTIVE_STATES
from memory_operator.store.spaces.spaces import Space


async def activate(conn: Conn, space: Space, actor: Actor) -> None:
    """Make a space the active one. The registry is locked exclusively."""
    before = await spaces.active(conn)
    if before and before.id == space.id:
        return
    await spaces.activate(conn, space, actor.name)
    await activity.record(
        conn,
        actor,
        "activate",
        space.embedding_version,
        provider=str(space.ref),
        before=before.embedding_version if before else None,
    )
    await registry.announce(conn)


async def activate_if_first(conn: Conn, space: Space, actor: Actor) -> None:
    """Make the first space of a store active, or one of the Provider whose space was so when it went away.

    No active space is replaced, and after `deactivate` nothing is activated by itself. The registry is locked
    exclusively.
    """
    now = await registry.read(conn)
    if now.active_space_id is not None or now.inactive_reason == "disabled":
        return
    alone = [other.id for other in await spaces.all_spaces(conn)] == [space.id]
    before = None if now.restore_space_id is None else await spaces.get(conn, now.restore_space_id)
    if not now.ever_active or alone or (before is not None and before.ref == space.ref):
        await activate(conn, space, actor)


async def catch_up(conn: Conn, space: Space) -> None:
    """Fill what a space missed while nothing was embedded for it. The registry is locked exclusively."""
    if space.state in ACTIVE_STATES:
        await spaces.set_state(conn, space.id, "filling")
        await jobs.start(conn, space.id)


def coverage_is_comparable(row: providers.ProviderRow, beside: Space, counted: Mapping[int, int]) -> bool:
    """Whether a switch by itself loses no more than a hundredth of the vectors, or one: the rest is in quarantine."""
    before = counted.get(row.applied_space_id, 0) if row.applied_space_id else 0
    return before - counted.get(beside.id, 0) <= max(1, before // 100)


async def switch(conn: Conn, row: providers.ProviderRow, beside: Space, actor: Actor) -> None:
    """Let a Provider have the space that was filled beside its applied one, which is kept until it is pruned.

    If the applied space was active, or an older one of the same Provider that somebody went back to, the other becomes
    so in the same transaction: an answer never mixes the two. The registry is locked exclusively.
    """
    old_id = row.applied_space_id
    await providers.repoint(conn, row.ref, applied=beside.id, beside=None)
    if old_id is not None and old_id != beside.id:
        before = await spaces.active(conn)
        if before is not None and (before.id == old_id or before.ref == row.ref):
            await activate(conn, beside, actor)
            await leave(conn, before, beside)
        old = await spaces.get(conn, old_id)
        if old is not None:
            await leave(conn, old, beside)
    await activity.record(conn, actor, "switch", beside.embedding_version, provider=str(row.ref))
    await registry.announce(conn)


async def leave(conn: Conn, space: Space, followed_by: Space) -> None:
    """Retire a space that no Provider has, once another is active; for some time it still gets new memories.

    From then on only the credential that worked with its vendor is sent there, where the other space's is another one.
    The registry is locked exclusively.
    """
    if space.state not in ACTIVE_STATES or await providers.by_space(conn, space.id) is not None:
        return
    await spaces.set_state(conn, space.id, "retired")
    await jobs.cancel(conn, space.id)
    await credentials.set_moved(conn, space.id, moved=not space.config.same_vendor(followed_by.config))
    await kept.begin(conn, space.id, space.ref)


async def go_back(conn: Conn, space: Space, *, complete: bool) -> None:
    """Let a retired space be used again; what it lacks, if it is not complete, is filled while it answers.

    Its Provider goes on having another one. The registry is locked exclusively.
    """
    await spaces.set_state(conn, space.id, "ready" if complete else "filling")
    if not complete:
        await jobs.start(conn, space.id)


async def begin_fill(
    conn: Conn, space: Space, part: Part | None, requested_by: str, *, replace: bool = False, sleep_ms: int = 0
) -> int:
    """Begin a re-embed, unless a job of the space is open; the job's id. The registry is locked exclusively.

    The space is `filling` meanwhile where the whole store is looked at and some of it lacks a vector: a job of a part
    could not tell when that is over.
    """
    if part is None and await control.lacks_some(conn, space.id, None):
        await spaces.set_state(conn, space.id, "filling")
    return await jobs.start(
        conn, space.id, kind="reembed", part=part, replace=replace, requested_by=requested_by, sleep_ms=sleep_ms
    )
