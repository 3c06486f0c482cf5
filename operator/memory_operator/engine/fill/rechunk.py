"""Rechunking: stored memories are chunked again where the chunker, or the preprocessing, is another one by now.

A memory is replaced in one transaction, so that it is found all the time. Vectors of texts that stay are carried over
in every space; what is new is left to the workers, and no more of it at a time than they can make soon.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from memory_operator.engine.fill.writer import LOCK_TIMEOUT_MS
from memory_operator.engine.memories.prepare import VERSIONS, NewMemory, Prepared, opened, prepare, seal
from memory_operator.engine.spaces.activation import ACTIVE_STATES, begin_fill
from memory_operator.errors import InvalidInput, LeaseLost
from memory_operator.logs import get_logger
from memory_operator.memory.attributes import PlainAttributes
from memory_operator.memory.encryption import Place, Undecryptable
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import control, jobs, leases, parts, rechunk
from memory_operator.store.jobs.leases import Lease
from memory_operator.store.jobs.rechunk import CutMemory
from memory_operator.store.memories import languages, memories
from memory_operator.store.memories.tenants import KeyRing, Tenant
from memory_operator.store.spaces import registry, spaces
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

MOST_WAITING = 2_000
"""While so many chunks of a space wait for a vector, nothing is rechunked: queries would find less and less."""

_PAGE = 50
_RELEASE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Range:
    """One range of a job, claimed by this worker."""

    conn: Conn
    """The one that writes: whoever takes the range over ends its session."""
    store: Store
    keys: KeyRing
    lease: Lease
    project_id: int | None


async def rechunk_one_range(store: Store, keys: KeyRing, worker: str, presence: int) -> bool:
    """Rechunk one range of the reindex that runs; False when there is none, or it has to wait for the fills.

    `presence` is the key of the lock by which this worker shows that it is alive. Raises StoreUnavailable, LockBusy:
    the range is released, and is claimed again.
    """
    async with store.connection() as conn:
        found = await rechunk.running(conn)
        if found is None or await rechunk.waiting(conn) >= MOST_WAITING:
            return False
    job_id, project_id = found
    if await _finish(store, job_id, project_id):
        return False
    async with store.connection({"lock_timeout": f"{LOCK_TIMEOUT_MS}ms"}) as conn:
        lease = await leases.claim(conn, job_id, worker, presence, await leases.backend_of(conn))
        if lease is None:
            return False
        await rechunk.begin(conn, job_id)
        try:
            await _rechunk_range(_Range(conn, store, keys, lease, project_id))
        except LeaseLost as lost:
            log.info("%s", lost)
            return True
        except BaseException:
            await asyncio.shield(asyncio.wait_for(_release(store, lease), _RELEASE_SECONDS))
            raise
    await _finish(store, job_id, project_id)
    return True


async def _release(store: Store, lease: Lease) -> None:
    async with store.connection() as conn:
        await leases.release(conn, [lease])


async def _rechunk_range(claimed: _Range) -> None:
    conn, lease, after = claimed.conn, claimed.lease, claimed.lease.after_id
    while page := await rechunk.read(conn, after, lease.upto_id, claimed.project_id, VERSIONS, _PAGE):
        same = 0
        for memory in page:
            fresh = await _rechunked(claimed, memory)
            if fresh is None:
                same += 1
            else:
                await _replace(claimed, memory, *fresh)
        async with conn.transaction():
            await leases.fence(conn, [lease])
            await jobs.advance(conn, lease.job_id, same, 0, 0)
        after = page[-1].id
        async with claimed.store.connection() as other:
            if not await jobs.is_running(other, lease.job_id):
                await leases.release(other, [lease])
                return
    async with conn.transaction():
        if await leases.finish(conn, [lease]):
            raise LeaseLost([lease.id])


async def _rechunked(claimed: _Range, memory: CutMemory) -> tuple[Tenant, Prepared] | None:
    """A memory as it would be chunked now; None where it is so already, or cannot be."""
    tenant = await claimed.keys.tenant(claimed.store, memory.tenant)
    canonical, number = memory.canonical_id, memory.version_no
    try:
        text = opened(memory.input, tenant.key, Place(canonical, number, "input"))
        summary = opened(memory.summary, tenant.key, Place(canonical, number, "summary"))
        about = PlainAttributes(summary, tags=tuple(memory.tags))
        prepared = await prepare(NewMemory(text or "", attributes=about), tenant.key)
    except (Undecryptable, InvalidInput) as error:
        log.warning("memory %s keeps the chunks that it has: %s", canonical, error)
        return None
    if memory.up_to_date and tuple(memory.hashes) == prepared.hashes:
        return None
    return tenant, prepared


async def _replace(claimed: _Range, memory: CutMemory, tenant: Tenant, prepared: Prepared) -> None:
    """Put new chunks in the place of the old ones. Raises LeaseLost, LockBusy."""
    conn = claimed.conn
    _, chunks = await seal(
        prepared, tenant.key, memory.canonical_id, memory.version_no, memory.project_id, "memory-operator"
    )
    async with conn.transaction():
        await registry.lock_registry_shared(conn)
        copied, deltas = 0, dict[int, int]()
        if await rechunk.hold(conn, memory.id):  # else it was amended or forgotten meanwhile
            await languages.note(
                conn, memory.project_id, sorted({chunk.language for chunk in chunks if chunk.language})
            )
            old = await rechunk.set_aside(conn, memory.id)
            new = await memories.insert_chunks(conn, memory.id, memory.project_id, chunks, VERSIONS)
            for space in await spaces.all_spaces(conn):
                there = await rechunk.carry_over(conn, space, old, new)
                copied += len(there)
                deltas[space.id] = len(there)
                await _mark_pending(conn, space, [chunk for chunk in new if chunk not in there])
            for space_id, delta in (await rechunk.forget_old(conn, old)).items():
                deltas[space_id] = deltas.get(space_id, 0) + delta
            deltas[registry.CHUNKS] = len(new) - len(old)
        await leases.fence(conn, [claimed.lease])
        await jobs.advance(conn, claimed.lease.job_id, 1, copied, 0)
        await registry.count(conn, deltas)


async def _mark_pending(conn: Conn, space: Space, chunk_ids: list[int]) -> None:
    if chunk_ids and space.gets_vectors:
        await memories.mark_pending(conn, space.id, chunk_ids)
        await jobs.wake(conn)


async def _finish(store: Store, job_id: int, project_id: int | None) -> bool:
    """End the job once it is exhausted, and begin to fill what is missing for another reason; False while it runs."""
    async with store.connection() as conn:
        if not await rechunk.is_exhausted(conn, job_id):
            return False
        live = [space for space in await spaces.all_spaces(conn) if space.state in ACTIVE_STATES]
        lacking = [
            (space.id, await parts.part_of(conn, space.id, project_id, replace=False))
            for space in live
            if await control.lacks_some(conn, space.id, project_id)
        ]
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        if not await rechunk.finish(conn, job_id):
            return False
        for space_id, part in lacking:
            space = await spaces.get(conn, space_id)
            if space is not None:  # else it was discarded meanwhile
                await begin_fill(conn, space, part, "memory-operator")
    log.info("reindex is done (job=%d)", job_id)
    return True
