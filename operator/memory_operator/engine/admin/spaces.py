"""The spaces as people see them: listed, activated, deactivated, pruned."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from memory_operator.contract.resource import ProviderRef
from memory_operator.contract.status import ConditionType, Phase, ProviderStatus
from memory_operator.engine.admin.switchable import SpaceView as SpaceView
from memory_operator.engine.admin.switchable import (
    lacks_some,
    not_covered,
    refuse_orphaned,
    refuse_unmeasured,
)
from memory_operator.engine.spaces import activation
from memory_operator.engine.spaces.active import SemanticStatus
from memory_operator.engine.spaces.progress import JobView, view_of
from memory_operator.errors import LockBusy, NotFound, SpaceVanished
from memory_operator.plan.coverage import ENOUGH_COVERAGE
from memory_operator.store.db import activity, locks
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import control
from memory_operator.store.memories import counts
from memory_operator.store.spaces import gates, providers, registry, segments, spaces, vectors
from memory_operator.store.spaces.providers import PendingChange, ProviderRow
from memory_operator.store.spaces.registry import Registry
from memory_operator.store.spaces.spaces import Space

_LOCK_TIMEOUT_MS = 100
_PRUNE_TRIES = 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Provider that no space could be made for yet, and what its Ready condition says."""

    ref: ProviderRef
    phase: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole store at one moment."""

    views: Sequence[SpaceView]
    registry: Registry
    chunks: int
    jobs: Sequence[JobView]
    """The newest of each space, newest first, and a reindex that is open."""
    held: Sequence[PendingChange]

    @property
    def semantic_status(self) -> SemanticStatus:
        """What a query would say of the semantic channel now."""
        active = next((view for view in self.views if view.figures.active), None)
        if active is None:
            return "disabled" if self.registry.inactive_reason == "disabled" else "no_active_space"
        if active.figures.trouble:
            return "embedder_unavailable"
        return "ok" if active.space.state == "ready" else "filling"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is: a tenant's memories by project, and what the whole store holds."""

    projects: Mapping[str, int]
    chunks: int
    vectors: int
    spaces: int
    held: int


@dataclass(frozen=True, slots=True)
class ProjectCounts:
    """How much of one project there is, and how much of it is in each space, by embedding version."""

    project: str
    whole: counts.Counted
    by_space: Mapping[str, counts.Counted]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A space that was, or would be, removed."""

    embedding_version: str
    provider: str
    state: str
    vectors: int
    bytes: int
    kept_until: datetime | None = None
    """Until when it could be switched back to at once; None: it is not kept."""


class Catalog:
    """Looks at spaces and changes which one is active. One for each event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def spaces(self) -> list[SpaceView]:
        """All spaces, oldest first, from maintained counters."""
        async with self._store.connection() as conn:
            return await _with_unindexed(conn)

    async def waiting(self) -> tuple[list[Waiting], list[Waiting]]:
        """Providers that wait for something to be put right, the oldest first.

        Those that have no space: a Secret may be missing, or a vendor down. And those whose space is in use while what
        they say by now cannot be applied.
        """
        async with self._store.connection() as conn:
            there = [row for row in await providers.all_rows(conn) if row.absent_since is None]
        without_space = [waiting_of(row) for row in there if row.applied_space_id is None]
        with_space = [waiting_of(row) for row in there if row.applied_space_id is not None]
        return without_space, [each for each in with_space if each.phase in (Phase.ERROR, Phase.UNAVAILABLE)]

    async def overview(self) -> Overview:
        """Spaces, jobs and held changes."""
        async with self._store.connection() as conn:
            views = await _with_unindexed(conn)
            newest = await control.newest(conn)
            counted = await registry.counted(conn)
            return Overview(
                views,
                await registry.read(conn),
                counted.get(registry.CHUNKS, 0),
                [view_of(named) for named in newest],
                await providers.pending_changes(conn),
            )

    def selection_waits(self) -> str | None:
        """Why queries do not read yet what a file says; None where there is no such file, or they do."""
        return None

    async def namespace_of(self, embedding_version: str) -> str | None:
        """Namespace of the Provider of a space; None where there is no such space."""
        async with self._store.connection() as conn:
            space = await spaces.by_version(conn, embedding_version)
        return space.ref.namespace if space else None

    async def namespace_of_active(self) -> str | None:
        """Namespace of the Provider whose space queries read; None where they read none."""
        async with self._store.connection() as conn:
            space = await spaces.active(conn)
        return space.ref.namespace if space else None

    async def namespaces(self) -> set[str]:
        """Namespaces of all Providers that are known, and of those that a space was made for."""
        async with self._store.connection() as conn:
            return await providers.namespaces(conn)

    async def activity(self, before: int | None, limit: int) -> list[activity.ActivityEntry]:
        """The newest entries of the history, or those before one, newest first."""
        async with self._store.connection() as conn:
            return await activity.page(conn, before, limit)

    async def counts(self, tenant: str) -> Counts:
        """How much there is, for one tenant and in all."""
        async with self._store.connection() as conn:
            counted = await registry.counted(conn)
            found = await spaces.all_spaces(conn)
            return Counts(
                projects=await counts.memories(conn, tenant),
                chunks=counted.get(registry.CHUNKS, 0),
                vectors=sum(counted.get(space.id, 0) for space in found),
                spaces=len(found),
                held=len(await providers.pending_changes(conn)),
            )

    async def project_counts(self, tenant: str, project: str) -> ProjectCounts:
        """How much of a tenant's project each space has. Raises NotFound."""
        async with self._store.connection() as conn:
            project_id = await counts.project_id(conn, tenant, project)
            if project_id is None:
                raise NotFound(f"there is no project {project}", hint="GET /v1/stats lists those of your tenant")
            by_space = {}
            for space in await spaces.all_spaces(conn):
                with contextlib.suppress(SpaceVanished):
                    by_space[space.embedding_version] = await counts.in_space(conn, project_id, space.id)
            return ProjectCounts(project, await counts.in_project(conn, project_id), by_space)

    async def activate(
        self, embedding_version: str | None, provider: str | None, by: Actor, *, force: bool = False
    ) -> SpaceView:
        """Let queries read another space, in constant time.

        One that an edit replaced answers again as it is, where it lacks nothing; with `force` it is filled meanwhile.
        Raises NotFound, Conflict (coverage_below_threshold, space_orphaned, space_retired).
        """
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            view = await _to_activate(conn, embedding_version, provider, force=force)
            before = await spaces.active(conn)
            if view.space.state == "retired":
                await activation.go_back(conn, view.space, complete=not view.unaccounted)
            row = await providers.by_space(conn, view.space.id)
            if row is not None and row.beside_space_id == view.space.id:
                await _record_override(conn, view.space, by)
                await activation.switch(conn, row, view.space, by)
            await activation.activate(conn, view.space, by)
            if before is not None and before.id != view.space.id:
                await activation.leave(conn, before, view.space)
            return await _wanted(conn, view.space.embedding_version, None)

    async def may_activate(self, embedding_version: str | None, provider: str | None, *, force: bool) -> SpaceView:
        """The space that `activate` would make active now; nothing is changed. Raises as that."""
        async with self._store.connection() as conn:
            return await _to_activate(conn, embedding_version, provider, force=force)

    async def named(self, embedding_version: str | None, provider: str | None) -> SpaceView:
        """The space that a request names. Raises NotFound."""
        async with self._store.connection() as conn:
            return await _wanted(conn, embedding_version, provider)

    async def deactivate(self, by: Actor) -> None:
        """Let queries answer from full-text alone; every vector stays."""
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            before = await spaces.active(conn)
            await spaces.deactivate(conn, "disabled", by.name)
            await activity.record(conn, by, "deactivate", before.embedding_version if before else "")
            await registry.announce(conn)

    async def set_create_enabled(
        self, embedding_version: str | None, provider: str | None, by: Actor, *, enabled: bool
    ) -> SpaceView:
        """Let new memories be embedded for a space, or not; once they are again, it gets what it missed.

        Raises NotFound.
        """
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            space = (await _wanted(conn, embedding_version, provider)).space
            await spaces.set_create_enabled(conn, space.id, enabled=enabled)
            if enabled and not space.create_enabled:
                await activation.catch_up(conn, space)
            await activity.record(conn, by, "create-enabled", space.embedding_version, enabled=enabled)
            await registry.announce(conn)
            return await _wanted(conn, space.embedding_version, None)

    async def prune(self, namespaces: Collection[str], by: Actor, *, dry_run: bool = False) -> list[Pruned]:
        """Remove the spaces that nobody asks for: orphaned and retired ones that are not active.

        Only those of Providers in `namespaces`. A dry run looks with the same query. Raises LockBusy; what was removed
        until then stays removed.
        """
        async with self._store.connection() as conn:
            candidates = [space for space in await spaces.prunable(conn) if space.ref.namespace in namespaces]
            counted = await registry.counted(conn)
            found = [
                Pruned(
                    space.embedding_version,
                    str(space.ref),
                    space.state,
                    counted.get(space.id, 0),
                    await vectors.size(conn, space.id),
                    space.kept_until if space.kept else None,
                )
                for space in candidates
            ]
        if dry_run:
            return found
        gone = []
        for space, pruned in zip(candidates, found, strict=True):
            if await self._drop(space, by):
                gone.append(pruned)
        return gone

    async def _drop(self, space: Space, by: Actor) -> bool:
        """Drop one space in a short transaction of its own; False when it is wanted again by now."""
        tries, patience = 0, None
        while True:
            tries += 1
            try:
                async with self._store.transaction(lock_timeout_ms=patience or _LOCK_TIMEOUT_MS) as conn:
                    await registry.lock_registry_exclusive(conn)
                    if space.id not in {other.id for other in await spaces.prunable(conn)}:
                        return False
                    await vectors.lock_for_discard(conn, space.id)
                    await spaces.discard(conn, space)
                    await activity.record(conn, by, "prune", space.embedding_version, provider=str(space.ref))
                    await registry.announce(conn)
                    return True
            except LockBusy:
                if tries == _PRUNE_TRIES:
                    raise
            async with self._store.connection() as conn:
                patience = await locks.patience_ms(conn, ("memory_chunks", vectors.table(space.id)))
            await asyncio.sleep(random.uniform(0.2, 0.6))


async def _views(conn: Conn) -> list[SpaceView]:
    return [SpaceView(space, figures) for space, figures in await spaces.all_with_figures(conn)]


async def _with_unindexed(conn: Conn) -> list[SpaceView]:
    return [replace(view, unindexed=await segments.unindexed(conn, view.space)) for view in await _views(conn)]


async def _wanted(conn: Conn, embedding_version: str | None, provider: str | None) -> SpaceView:
    """The space that a request names, by its version or by its Provider. Raises NotFound."""
    views = await _views(conn)
    if embedding_version is not None:
        for view in views:
            if view.space.embedding_version == embedding_version:
                return view
        raise NotFound(f"there is no space {embedding_version}", hint="GET /v1/embeddings/spaces lists them")
    by_id = {view.space.id: view for view in views}
    for row in await providers.all_rows(conn):
        if str(row.ref) == provider:
            chosen = _of_provider(by_id.get(row.applied_space_id or 0), by_id.get(row.beside_space_id or 0))
            if chosen is not None:
                return chosen
    raise NotFound(f"Provider {provider} has no space", hint="GET /v1/embeddings/spaces lists them")


async def _record_override(conn: Conn, space: Space, by: Actor) -> None:
    """Keep who switched to a space that was found wanting, or was not measured, and what was known of it."""
    if await gates.is_measured(conn, space.id):
        result = await gates.result(conn, space.id)
        if result is None or not result.passed:
            known = result.message if result else "not measured"
            await activity.record(conn, by, "gate-overridden", space.embedding_version, message=known)


async def _to_activate(conn: Conn, embedding_version: str | None, provider: str | None, *, force: bool) -> SpaceView:
    """The space that a request names, if queries may read it. Raises NotFound, Conflict."""
    view = await _wanted(conn, embedding_version, provider)
    await refuse_orphaned(conn, view.space)
    if view.space.state == "retired" and view.unaccounted and not force:
        raise await lacks_some(conn, view)
    if not (view.covers_enough or force):
        raise not_covered(view)
    if not force:
        await refuse_unmeasured(conn, view)
    return view


def _of_provider(applied: SpaceView | None, beside: SpaceView | None) -> SpaceView | None:
    """The newer of a Provider's two spaces once it can answer, or when the other answers already."""
    if beside and (applied is None or applied.figures.active or beside.coverage >= ENOUGH_COVERAGE):
        return beside
    return applied


def last_error_of(view: SpaceView) -> str | None:
    """Why the embedder of a space gives no vectors at the moment."""
    return view.figures.trouble


def waiting_of(row: ProviderRow) -> Waiting:
    """What a Provider waits for, as its Ready condition says it."""
    if row.status is None:
        return Waiting(row.ref, "Pending", "Pending", "the operator has not looked at it yet")
    status = ProviderStatus.model_validate(row.status)
    ready = next((each for each in status.conditions if each.type == ConditionType.READY), None)
    return Waiting(row.ref, status.phase, ready.reason if ready else "Pending", ready.message if ready else "")
