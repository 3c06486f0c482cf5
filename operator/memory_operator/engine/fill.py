"""The worker: walks ranges of chunks, embeds what has no vector, and stores it behind a fence."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from memory_operator import metrics
from memory_operator.embedders import batch_limit
from memory_operator.engine.connect import Connector
from memory_operator.engine.embed import EmbeddedBatch, embed_batch
from memory_operator.errors import LockBusy, MemoryOperatorError, Retryable, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store import jobs, locks, registry, spaces, vectors
from memory_operator.store.jobs import Lease, LeaseLost, StoredChunk
from memory_operator.store.keys import KeyRing
from memory_operator.store.pool import Conn, Store
from memory_operator.store.spaces import Space

log = get_logger(__name__)

_HEARTBEAT_SECONDS = jobs.LEASE_SECONDS / 3


class Filler:
    """Fills spaces for one worker process. Its methods do one step each and return whether there was one to do."""

    def __init__(self, store: Store, connector: Connector, keys: KeyRing, name: str) -> None:
        self._store = store
        self._connector = connector
        self._keys = keys
        self._name = name
        self._left_behind: list[Lease] = []
        self.presence = secrets.randbits(31)
        """Key of the lock by which this worker shows that it is alive."""

    async def walk_one_range(self) -> bool:
        """Claim a range and walk it to its end; False when there is none to claim."""
        async with self._store.connection() as conn:
            while self._left_behind:
                await jobs.release(conn, self._left_behind[-1])
                self._left_behind.pop()
            lease = await jobs.claim(conn, self._name, self.presence)
        if lease is None:
            return False
        try:
            async with self._heartbeat(lease):
                await self._walk(lease)
        except LeaseLost as lost:
            log.info("%s", lost)
        except StoreUnavailable:
            self._left_behind.append(lease)  # to be given back as soon as the database is there again
            raise
        except MemoryOperatorError as trouble:
            await self._postpone(lease, trouble)
        except BaseException:
            await asyncio.shield(self._release(lease))
            raise
        return True

    async def feed_one_batch(self, space: Space) -> bool:
        """Embed the oldest chunks of a space that were stored without a vector; False when there are none.

        Raises LockBusy when another process does so, and whatever the embedder raises.
        """
        async with locks.feed_lock(self._store, space.id):
            async with self._store.connection() as conn:
                chunks = await jobs.pending_chunks(conn, space.id, batch_limit(space.config))
            if not chunks:
                return False
            batch = await self._embed(space, chunks)
            async with self._store.transaction() as conn:
                stored = await _store_batch(conn, space, chunks, batch)
                await jobs.settle_pending(conn, space.id, [chunk.id for chunk in chunks])
                await jobs.note_trouble(conn, space.id, None, None)
            _measure(stored, batch)
        return True

    async def note_trouble(self, space_id: int, trouble: MemoryOperatorError) -> None:
        """Keep why an embedder gives no vectors where the operator finds it."""
        metrics.FILL_TROUBLES.labels(type(trouble).__name__).inc()
        async with self._store.transaction() as conn:
            text = f"{trouble.message}; {trouble.hint}" if trouble.hint else trouble.message
            await jobs.note_trouble(conn, space_id, type(trouble).__name__, text)

    async def _walk(self, lease: Lease) -> None:
        async with self._store.connection() as conn:
            space = await spaces.get(conn, lease.space_id)
        if space is None:
            return
        after_id, limit = lease.after_id, batch_limit(space.config)
        while True:
            async with self._store.connection() as conn:
                chunks = await jobs.missing_in_range(conn, lease, after_id, limit)
                if not chunks:
                    await jobs.finish_range(conn, lease)
                    return
            batch = await self._embed(space, chunks)
            after_id = chunks[-1].id
            async with self._store.transaction() as conn:
                stored = await _store_batch(conn, space, chunks, batch)
                await jobs.note_trouble(conn, space.id, None, None)
                await jobs.advance(conn, lease, after_id, stored, batch.tokens)
            _measure(stored, batch)

    async def _embed(self, space: Space, chunks: Sequence[StoredChunk]) -> EmbeddedBatch:
        texts = await self._keys.chunk_texts(self._store, chunks)
        embedder = await self._connector.embedder(space.config)
        try:
            return await embed_batch(embedder, texts, space.dimensions, space.config.timeout_seconds)
        except MemoryOperatorError as error:
            self._connector.forget(space.config, error)
            raise

    async def _postpone(self, lease: Lease, trouble: MemoryOperatorError) -> None:
        if not isinstance(trouble, LockBusy):
            await self.note_trouble(lease.space_id, trouble)
        async with self._store.transaction() as conn:
            await jobs.release(conn, lease)
            await jobs.postpone(conn, lease.job_id, trouble.retry_after if isinstance(trouble, Retryable) else None)

    async def _release(self, lease: Lease) -> None:
        try:
            async with self._store.connection() as conn:
                await jobs.release(conn, lease)
        except (StoreUnavailable, LockBusy) as error:
            log.info("a range is given back when its lease runs out: %s", error)

    @asynccontextmanager
    async def _heartbeat(self, lease: Lease) -> AsyncIterator[None]:
        """Renew a lease while a long call is under way."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(_HEARTBEAT_SECONDS)
                try:
                    async with self._store.connection() as conn:
                        await jobs.renew(conn, lease)
                except (LeaseLost, StoreUnavailable, LockBusy) as error:
                    log.info("a lease was not renewed: %s", error)

        task = asyncio.create_task(renew(), name=f"heartbeat of range {lease.id}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _store_batch(conn: Conn, space: Space, chunks: Sequence[StoredChunk], batch: EmbeddedBatch) -> int:
    """Store a batch in the caller's transaction; how many vectors are new."""
    stored = 0
    if batch.places:
        ids = [chunks[place].id for place in batch.places]
        found: Any = np.concatenate(batch.vectors)
        stored = await vectors.insert(conn, space.id, space.column_type, ids, found)
    for place, reason in batch.refused.items():
        log.warning("chunk %d is put into quarantine: %s", chunks[place].id, reason)
        await jobs.quarantine(conn, space.id, chunks[place].id, reason)
    await registry.count(conn, {space.id: stored})
    return stored


def _measure(stored: int, batch: EmbeddedBatch) -> None:
    metrics.FILL_VECTORS.inc(stored)
    metrics.FILL_TOKENS.inc(batch.tokens or 0)
    metrics.FILL_QUARANTINED.inc(len(batch.refused))
