"""Versions of memories on their way into the store: what stores them with their vectors, or without."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from memory_operator.engine.memories.embed_on_write import Made
from memory_operator.engine.memories.prepare import VERSIONS
from memory_operator.errors import MemoryChanged
from memory_operator.plan.cost import cost_of
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import jobs
from memory_operator.store.memories import memories, new_versions
from memory_operator.store.memories.memories import NewChunk, NewVersion, Version
from memory_operator.store.memories.new_versions import Addition, Stored
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.spaces.spaces import Space

EmbeddingStatus = Literal["embedded", "pending"]


@dataclass(frozen=True, slots=True)
class StoredMemory:
    """The answer to a write."""

    id: UUID
    project: str
    version_no: int
    embedding_version: str | None
    """The active space; None while it lacks this memory's vectors."""
    embedding_status: EmbeddingStatus
    chunks: int
    tokens: int | None
    """Input tokens paid for this write, in all spaces; None when unknown, or still to come."""
    cost: Decimal | None
    """US dollars; None when unknown, or still to come."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Vectors:
    """What was embedded for a version before its transaction began."""

    spaces: Sequence[Space]
    wanted: Mapping[int, Sequence[int]]
    """By space, the chunks of which the version before has no vector."""
    made: Mapping[int, Made]

    def complete(self, space_id: int) -> bool:
        """Whether every chunk has a vector of a space, or gets that of the version before."""
        return space_id in self.made and set(self.made[space_id].vectors) == set(self.wanted[space_id])

    def only(self, space_ids: Collection[int]) -> Vectors:
        """Those in some of the spaces."""
        return dataclasses.replace(self, spaces=[space for space in self.spaces if space.id in space_ids])

    @property
    def tokens(self) -> int | None:
        """Input tokens of all calls; None where one is unknown."""
        counted = [made.tokens for made in self.made.values()]
        return None if None in counted else sum(count for count in counted if count is not None)

    @property
    def cost(self) -> Decimal | None:
        """Price of all calls in US dollars; None where one is unknown."""
        total = Decimal(0)
        for space in self.spaces:
            tokens = self.made[space.id].tokens
            price = Decimal(0) if tokens == 0 else cost_of(tokens, space.config.input_cost_per_1k)
            if price is None:
                return None
            total += price
        return total


@dataclass(frozen=True, slots=True)
class VersionWrite:
    """A version that is ready to be stored."""

    project: str
    version: NewVersion
    chunks: Sequence[NewChunk]
    vectors: Vectors

    def addition(self) -> Addition:
        """What is stored of it."""
        of = self.vectors
        return Addition(
            dataclasses.replace(self.version, tokens=of.tokens, cost=of.cost),
            self.chunks,
            {space.id: of.made[space.id].vectors for space in of.spaces},
            [space.id for space in of.spaces if of.complete(space.id)],
        )

    def answer(self, stored: Stored) -> StoredMemory:
        """The answer to its author."""
        return StoredMemory(
            id=self.version.canonical_id,
            project=self.project,
            version_no=self.version.version_no,
            embedding_version=stored.embedding_version,
            embedding_status="embedded" if stored.embedding_version else "pending",
            chunks=len(self.chunks),
            tokens=stored.tokens,
            cost=stored.cost,
            created_at=stored.created_at,
        )


async def store(conn: Conn, writes: Sequence[VersionWrite]) -> list[StoredMemory]:
    """Store new memories; what lacks a vector in a space that is there now is left to the workers.

    In a transaction that began with `new_versions.BEGIN`. Raises SpaceVanished, LockBusy.
    """
    into = {space.id: space for write in writes for space in write.vectors.spaces}
    additions = [write.addition() for write in writes]
    stored = await new_versions.insert(conn, additions, list(into.values()), VERSIONS)
    if any(each.pending for each in stored):
        await jobs.wake(conn)
    return [write.answer(each) for write, each in zip(writes, stored, strict=True)]


async def supersede(conn: Conn, writes: Sequence[VersionWrite], *, tenant_id: int, old: Version) -> list[StoredMemory]:
    """Store one version in the place of another, whose vectors it has where their texts are the same.

    Raises as `store`, and MemoryChanged.
    """
    [write] = writes
    now = await memories.lock_current(conn, tenant_id, write.version.canonical_id)
    if now is None or now.id != old.id:
        raise MemoryChanged
    await memories.retire(conn, old.id)
    [stored] = await new_versions.insert(conn, [write.addition()], write.vectors.spaces, VERSIONS)
    deltas: dict[int, int] = {}
    for space in await spaces.accepting_writes(conn):
        deltas[space.id] = await memories.carry_over(conn, space, old.id, stored.id)
    pending = await memories.pending_in(conn, stored.id)
    if stored.embedding_version and (await registry.read(conn)).active_space_id in pending:
        await memories.not_embedded(conn, stored.id)
        stored = dataclasses.replace(stored, embedding_version=None, tokens=None, cost=None)
    for scope, delta in (await memories.retire_chunks(conn, old.id)).items():
        deltas[scope] = deltas.get(scope, 0) + delta
    if pending:
        await jobs.wake(conn)
    await registry.count(conn, deltas)
    return [write.answer(stored)]
