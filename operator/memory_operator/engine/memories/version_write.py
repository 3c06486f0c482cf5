"""One version of a memory on its way into the store: the transaction that stores it with its vectors, or without."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import numpy as np

from memory_operator.engine.memories.embed_on_write import Made
from memory_operator.engine.memories.prepare import VERSIONS
from memory_operator.errors import MemoryChanged
from memory_operator.plan.cost import cost_of
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import jobs
from memory_operator.store.memories import memories
from memory_operator.store.memories.memories import NewChunk, NewVersion, Version
from memory_operator.store.spaces import registry, spaces, vectors
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
        return space_id in self.made and set(self.made[space_id].places) == set(self.wanted[space_id])

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

    tenant_id: int
    project: str
    version: NewVersion
    chunks: Sequence[NewChunk]
    vectors: Vectors
    old: Version | None
    """The version that it replaces."""

    async def store(self, conn: Conn) -> StoredMemory:
        """Store version, chunks and vectors; what lacks a vector is left to the workers.

        Runs in a transaction of its own. Raises MemoryChanged, LockBusy.
        """
        await registry.lock_registry_shared(conn)
        await self._make_room(conn)
        # The spaces of now, not those that were embedded for: one may have come since, another gone.
        writable = await spaces.accepting_writes(conn)
        active_id = (await registry.read(conn)).active_space_id
        active = next((space for space in writable if space.id == active_id), None)
        version = self._stamped(active)
        entry_id, created_at = await memories.insert_version(conn, version)
        ids = await memories.insert_chunks(conn, entry_id, version.project_id, self.chunks, VERSIONS)
        deltas: dict[int, int] = {registry.CHUNKS: len(ids)}
        pending = False
        for space in writable:
            there = await self._add_vectors(conn, space, entry_id, ids)
            deltas[space.id] = len(there)
            missing = [chunk_id for chunk_id in ids if chunk_id not in there]
            if missing:
                pending = True
                await memories.mark_pending(conn, space.id, missing)
                if space is active and version.embedding_version:
                    version = self._stamped(None)
                    await memories.not_embedded(conn, entry_id)
        await self._retire_old(conn, deltas)
        if pending:
            await jobs.wake(conn)
        await registry.count(conn, deltas)
        return StoredMemory(
            id=version.canonical_id,
            project=self.project,
            version_no=version.version_no,
            embedding_version=version.embedding_version,
            embedding_status="embedded" if version.embedding_version else "pending",
            chunks=len(ids),
            tokens=version.tokens,
            cost=version.cost,
            created_at=created_at,
        )

    def _stamped(self, active: Space | None) -> NewVersion:
        """The version with the space that it is found in from the start, and what that took."""
        if active is None or not self.vectors.complete(active.id):
            return dataclasses.replace(self.version, embedding_version=None, tokens=None, cost=None)
        return dataclasses.replace(
            self.version,
            embedding_version=active.embedding_version,
            tokens=self.vectors.tokens,
            cost=self.vectors.cost,
        )

    async def _make_room(self, conn: Conn) -> None:
        if self.old is None:
            return
        now = await memories.lock_current(conn, self.tenant_id, self.version.canonical_id)
        if now is None or now.id != self.old.id:
            raise MemoryChanged
        await memories.retire(conn, self.old.id)

    async def _add_vectors(self, conn: Conn, space: Space, entry_id: int, ids: Sequence[int]) -> set[int]:
        """Store the vectors that there are for a space; ids of the chunks that have one now."""
        there: set[int] = set()
        if self.old is not None:
            there |= await memories.carry_over(conn, space, self.old.id, entry_id)
        made = self.vectors.made.get(space.id)
        if made is not None and made.places:
            new = [ids[place] for place in made.places]
            rows = vectors.Rows(
                np.array(new, dtype=np.int64),
                np.full(len(new), self.version.project_id, dtype=np.int32),
                np.concatenate(made.vectors),
            )
            await vectors.store(conn, space.id, space.column_type, rows)
            there |= set(new)
        return there

    async def _retire_old(self, conn: Conn, deltas: dict[int, int]) -> None:
        if self.old is None:
            return
        for scope, delta in (await memories.retire_chunks(conn, self.old.id)).items():
            deltas[scope] = deltas.get(scope, 0) + delta
