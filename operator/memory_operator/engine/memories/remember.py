"""Writing memories: added, amended, forgotten, purged. A write that was accepted is never lost for an embedder."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

from memory_operator import traces
from memory_operator.backoff import backoff
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.memories import version_write
from memory_operator.engine.memories.embed_on_write import EmbedOnWrite, Found
from memory_operator.engine.memories.prepare import NewMemory, Prepared, open_attributes, opened, prepare, seal
from memory_operator.engine.memories.sharing import Sharing, Work
from memory_operator.engine.memories.version_write import (
    EmbeddingStatus,
    StoredMemory,
    Vectors,
    VersionWrite,
)
from memory_operator.errors import Conflict, InvalidInput, LockBusy, MemoryChanged, NotFound, Retryable, SpaceVanished
from memory_operator.logs import get_logger
from memory_operator.memory.attributes import PlainAttributes
from memory_operator.memory.encryption import DataKey, Place, Undecryptable
from memory_operator.memory.languages import AUTO, CONFIGURATIONS
from memory_operator.store.db import activity
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs
from memory_operator.store.memories import browse, languages, memories, new_versions
from memory_operator.store.memories.languages import ProjectWords
from memory_operator.store.memories.memories import Erased, Version
from memory_operator.store.memories.tenants import KeyRing, Tenant
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

ADD_DEADLINE_SECONDS = 8.0
"""After this a write is answered `pending`, and the workers make its vectors."""

_STORING_SECONDS = 0.5
"""Of the deadline, kept for the transaction."""

_LOCK_TRIES = 4
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 0.4
_MOST_TOGETHER = 64
"""Chunks of memories of one tenant that are stored in one transaction, where several are added at the same time."""
_AMEND_TRIES = 3
_EMBED_TRIES = 4
"""How often the spaces may change under a write; after that its vectors are left to the workers."""
HISTORY_PAGE = 50
_PAGE_BYTES = 4 << 20
"""Of texts in a page of memories."""

T = TypeVar("T")
_Storing = Callable[[Conn, Sequence[VersionWrite]], Awaitable[list[StoredMemory]]]


@dataclass(frozen=True, slots=True)
class Changes:
    """What an amendment changes."""

    text: str | None = None
    """None: as it is."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """By name in Attributes; those left out stay as they are."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One version of a memory, as its author wrote it."""

    id: UUID
    project: str
    version_no: int
    current: bool
    tombstone: bool
    purged: bool
    text: str | None
    """None for a tombstone, and for what was purged."""
    attributes: PlainAttributes
    embedding_version: str | None
    """The space that was active when this was written and had its vectors at once."""
    tokens: int | None
    cost: Decimal | None
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ShownMemory:
    """The current version of a memory, and whether the active space finds it now."""

    memory: Memory
    embedding_version: str | None
    """The active space, where it has vectors of all chunks."""
    embedding_status: EmbeddingStatus
    chunks: int


class Remember:
    """The writing half of the memory API, and reading by id. One for each event loop."""

    def __init__(self, store: Store, connector: Connector, keys: KeyRing) -> None:
        self._store = store
        self._connector = connector
        self._keys = keys
        self._embedding = EmbedOnWrite(store, connector)
        self._adding = Sharing(Work("store added memories", self._store_added, _may_be_of_one, 2))

    async def add(self, tenant: str, memory: NewMemory, by: Actor) -> StoredMemory:
        """Store a new memory. Raises InvalidInput, StoreUnavailable, LockBusy."""
        started = asyncio.get_running_loop().time()
        owner = await self._keys.tenant(self._store, tenant)
        prepared = await _prepared(memory, owner.key)
        project_id = await self._keys.project(self._store, owner, memory.project)
        made = await self._embed(owner.id, prepared, None, started)
        version, chunks = await seal(prepared, owner.key, uuid4(), 1, project_id, by.name)
        write = VersionWrite(memory.project, version, chunks, made)
        return await self._adding.do(owner.id, write, max(1, len(chunks)), _MOST_TOGETHER)

    async def _store_added(self, writes: Sequence[VersionWrite]) -> list[StoredMemory]:
        return await self._write(writes, version_write.store)

    async def projects(self, tenant: str) -> list[ProjectWords]:
        """A tenant's projects with the language of their words, by name. Raises StoreUnavailable."""
        async with self._store.connection() as conn:
            return await languages.projects(conn, tenant)

    async def set_language(self, tenant: str, project: str, language: str, by: Actor) -> ProjectWords:
        """Set the language of a project's words, and let workers index its chunks anew where they are in another one.

        Raises InvalidInput, StoreUnavailable, LockBusy.
        """
        if language != AUTO and language not in CONFIGURATIONS:
            known = ", ".join((AUTO, *sorted(CONFIGURATIONS)))
            raise InvalidInput(f"there is no language {language}", hint=f"one of {known}")
        owner = await self._keys.tenant(self._store, tenant)
        project_id = await self._keys.project(self._store, owner, project)
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await activity.record(conn, by, "language", project, language=language)
            found = await languages.set_language(conn, project_id, language)
            await jobs.wake(conn)
        return found

    async def amend(self, tenant: str, memory_id: UUID, changes: Changes, by: Actor) -> StoredMemory:
        """Store a new version with some fields changed; chunks whose text stays keep their vectors.

        Raises NotFound, InvalidInput, Conflict (others keep changing it), StoreUnavailable, LockBusy.
        """
        started = asyncio.get_running_loop().time()
        owner = await self._owner(tenant, memory_id)
        for _ in range(_AMEND_TRIES):
            async with self._store.connection() as conn:
                old = _living(await memories.current(conn, owner.id, memory_id), memory_id)
            prepared = await _prepared(_changed(old, changes, owner.key), owner.key)
            made = await self._embed(owner.id, prepared, old, started)
            version, chunks = await seal(prepared, owner.key, memory_id, old.version_no + 1, old.project_id, by.name)
            write = VersionWrite(old.project, version, chunks, made)
            try:
                [stored] = await self._write([write], partial(version_write.supersede, tenant_id=owner.id, old=old))
            except MemoryChanged:
                continue
            return stored
        raise Conflict(f"memory {memory_id} is being changed by others", code="concurrent_change", hint="try again")

    async def forget(self, tenant: str, memory_id: UUID, by: Actor) -> None:
        """Replace a memory by a tombstone: it is found no more, its history stays. Raises NotFound."""
        owner = await self._owner(tenant, memory_id)

        async def work(conn: Conn) -> None:
            old = _living(await memories.lock_current(conn, owner.id, memory_id), memory_id)
            await registry.count(conn, await _insert_tombstone(conn, old, by))

        await self._transact(work, registry.LOCK_REGISTRY_SHARED)

    async def purge(self, tenant: str, memory_id: UUID, by: Actor) -> Erased:
        """Erase a memory's texts, chunks and vectors, in every version and space, and confirm it.

        A memory that was forgotten can be purged as well. Raises NotFound.
        """
        owner = await self._owner(tenant, memory_id)

        async def work(conn: Conn) -> Erased:
            old = _known(await memories.lock_current(conn, owner.id, memory_id), memory_id)
            # Erased before the tombstone is there: what a purge confirms is all that there was.
            erased, deltas = await memories.erase(conn, memory_id)
            if not old.tombstone:
                await _insert_tombstone(conn, old, by)
            await activity.record(
                conn,
                by,
                "memory_purged",
                str(memory_id),
                tenant=tenant,
                versions=erased.versions,
                chunks=erased.chunks,
                vectors=erased.vectors,
            )
            await registry.count(conn, deltas)
            return erased

        return await self._transact(work, registry.LOCK_REGISTRY_SHARED)

    async def show(self, tenant: str, memory_id: UUID) -> ShownMemory:
        """The current version of a memory. Raises NotFound."""
        owner = await self._owner(tenant, memory_id)
        async with self._store.connection() as conn:
            version = _living(await memories.current(conn, owner.id, memory_id), memory_id)
            active = await spaces.active(conn)
            try:
                chunks, embedded = await memories.embedded(conn, version.id, active.id if active else None)
            except SpaceVanished:  # discarded this very moment, and its vectors with it
                active = None
                chunks, embedded = await memories.embedded(conn, version.id, None)
        found_by = active.embedding_version if active and embedded == chunks else None
        return ShownMemory(_opened(version, owner.key), found_by, "embedded" if found_by else "pending", chunks)

    async def page(
        self,
        tenant: str,
        project: str | None,
        before: int | None,
        limit: int,
        between: tuple[UUID, UUID] | None = None,
    ) -> tuple[list[Memory], int | None]:
        """Current memories, newest first, and where the next page begins; a project that does not exist has none.

        With `between` only those whose ids lie there, both ends included.
        """
        owner = await self._keys.known_tenant(self._store, tenant)
        project_id = await self._keys.known_project(self._store, owner, project) if owner and project else None
        if owner is None or (project is not None and project_id is None):
            return [], None
        async with self._store.connection() as conn:
            versions, following = await browse.page(conn, (owner.id, project_id), before, limit, between, _PAGE_BYTES)
        shown = []
        for version in versions:
            try:
                shown.append(_opened(version, owner.key))
            except Undecryptable:  # one damaged row must not take all others down with it
                log.exception("memory %s is left out of a list", version.canonical_id)
        return shown, following

    async def history(
        self, tenant: str, memory_id: UUID, before_version: int | None = None, limit: int = HISTORY_PAGE
    ) -> list[Memory]:
        """Versions of a memory, tombstones too, newest first; the next page is below the last version seen.

        Raises NotFound.
        """
        owner = await self._owner(tenant, memory_id)
        async with self._store.connection() as conn:
            versions = await memories.history(conn, owner.id, memory_id, before_version, limit)
        if not versions and before_version is None:
            raise _no_such(memory_id)
        return [_opened(version, owner.key) for version in versions]

    async def _owner(self, tenant: str, memory_id: UUID) -> Tenant:
        owner = await self._keys.known_tenant(self._store, tenant)
        if owner is None:
            raise _no_such(memory_id)
        return owner

    async def _embed(self, tenant_id: int, prepared: Prepared, old: Version | None, started: float) -> Vectors:
        """Make the vectors that the old version does not have, outside of any transaction; a text is paid once."""
        deadline = started + ADD_DEADLINE_SECONDS - _STORING_SECONDS
        hashes = prepared.hashes
        found: defaultdict[int, Found] = defaultdict(Found)
        for _ in range(_EMBED_TRIES):
            into = await self._embedding.spaces()
            wanted: dict[int, Sequence[int]] = {}
            lacking: dict[int, Mapping[bytes, str]] = {}
            for space in into:
                reusable = await self._reusable_hashes(space, old) if old else set()
                wanted[space.id] = [place for place, each in enumerate(hashes) if each not in reusable]
                there = found[space.id].vectors
                lacking[space.id] = {hashes[n]: prepared.texts[n] for n in wanted[space.id] if hashes[n] not in there}
            try:
                with traces.span("add.embed", spaces=len(into)):
                    await self._embedding.embed(tenant_id, into, lacking, found, deadline)
            except SpaceVanished:
                continue
            break
        return Vectors(into, wanted, {space.id: found[space.id].of(hashes, wanted[space.id]) for space in into})

    async def _reusable_hashes(self, space: Space, old: Version) -> set[bytes]:
        try:
            async with self._store.connection() as conn:
                return await memories.hashes_with_vector(conn, space, old.id)
        except SpaceVanished:
            return set()

    async def _write(self, writes: Sequence[VersionWrite], how: _Storing) -> list[StoredMemory]:
        """Store versions in one transaction; without the vectors of a space that was discarded meanwhile."""

        async def work(conn: Conn) -> list[StoredMemory]:
            return await how(conn, writes)

        with traces.span("add.store", chunks=sum(len(write.chunks) for write in writes)):
            try:
                return await self._transact(work, new_versions.BEGIN)
            except SpaceVanished:
                async with self._store.connection() as conn:
                    there = {space.id for space in await spaces.all_spaces(conn)}
                if there.issuperset(space.id for write in writes for space in write.vectors.spaces):
                    raise
        return await self._write([replace(write, vectors=write.vectors.only(there)) for write in writes], how)

    async def _transact(self, work: Callable[[Conn], Awaitable[T]], first: str) -> T:
        """Run a transaction, again when another session's lock was in the way. Raises LockBusy in the end."""
        tries = 0
        while True:
            tries += 1
            try:
                async with self._store.begun(first) as conn:
                    return await work(conn)
            except LockBusy:
                if tries == _LOCK_TRIES:
                    raise
            await asyncio.sleep(backoff(tries, _FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS, jitter=0.5))


def _may_be_of_one(error: Exception) -> bool:
    """Whether others could be stored without the one that is in the way."""
    return not isinstance(error, Retryable)


async def _insert_tombstone(conn: Conn, old: Version, by: Actor) -> dict[int, int]:
    """Put a tombstone in a version's place; changes of the counters."""
    await memories.retire(conn, old.id)
    await memories.insert_tombstone(conn, old, by.name)
    return await memories.retire_chunks(conn, old.id)


def _no_such(memory_id: UUID) -> NotFound:
    return NotFound(f"there is no memory {memory_id}", hint="it may belong to another tenant, or be forgotten")


def _known(version: Version | None, memory_id: UUID) -> Version:
    if version is None:
        raise _no_such(memory_id)
    return version


async def _prepared(memory: NewMemory, key: DataKey) -> Prepared:
    with traces.span("add.preprocess") as span:
        prepared = await prepare(memory, key)
        span.note(chunks=len(prepared.texts))
    return prepared


def _living(version: Version | None, memory_id: UUID) -> Version:
    version = _known(version, memory_id)
    if version.tombstone:
        raise _no_such(memory_id)
    return version


def _opened(version: Version, key: DataKey) -> Memory:
    return Memory(
        id=version.canonical_id,
        project=version.project,
        version_no=version.version_no,
        current=version.current,
        tombstone=version.tombstone,
        purged=version.purged,
        text=opened(version.input, key, Place(version.canonical_id, version.version_no, "input")),
        attributes=open_attributes(version, key),
        embedding_version=version.embedding_version,
        tokens=version.tokens,
        cost=version.cost,
        created_by=version.created_by,
        created_at=version.created_at,
    )


def _changed(old: Version, changes: Changes, key: DataKey) -> NewMemory:
    memory = _opened(old, key)
    text = memory.text or "" if changes.text is None else changes.text
    return NewMemory(text, memory.project, replace(memory.attributes, **changes.attributes))
