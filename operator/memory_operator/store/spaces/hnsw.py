"""HNSW indexes: built beside the traffic, after the fill, from 1,000 vectors on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import asyncpg

from memory_operator.logs import get_logger
from memory_operator.store.db import locks
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.spaces import registry, vectors

log = get_logger(__name__)

FROM_VECTORS = 1_000
"""Below this an exact scan is as fast as an index."""

_OPERATORS = {"cosine": "cosine_ops", "l2": "l2_ops", "dot": "ip_ops"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A space whose table should have another index than it has."""

    space_id: int
    column_type: str
    distance: str


def name(space_id: int, distance: str) -> str:
    """Name of a space's index for a distance."""
    return f"{vectors.table(space_id)}_hnsw_{distance}"


_IS_VALID = """select indisvalid from pg_index where indexrelid = to_regclass($1)"""


async def is_valid(conn: Conn, space_id: int, distance: str) -> bool:
    """Whether the index is there and complete. An interrupted concurrent build leaves an invalid one behind."""
    return bool(await conn.fetchval(_IS_VALID, name(space_id, distance)))


async def wanted(conn: Conn, space_id: int) -> bool:
    """Whether a space has so many vectors that it needs an index."""
    counted = await registry.counted(conn)
    return counted.get(space_id, 0) >= FROM_VECTORS


_ONE_PROCESS = """set max_parallel_maintenance_workers = 0"""

_END_WITH_CLIENT = """set client_connection_check_interval = '2s'"""


async def build(store: Store, want: Wanted) -> None:
    """Build a space's index unless a valid one is there. Raises LockBusy when another process builds it.

    A build may take hours; it has no time limit of its own, but ends when its table goes or its session is cancelled.
    """
    async with locks.index_lock(store, want.space_id), store.dedicated("memory-index") as conn:
        if await is_valid(conn, want.space_id, want.distance):
            return
        with suppress(asyncpg.InvalidParameterValueError):  # a platform on which the server cannot notice it
            # Else the build of a worker that was killed goes on, and its successor's waits for the end of it.
            await conn.execute(_END_WITH_CLIENT)
        try:
            await _create(conn, want)
        except asyncpg.DiskFullError:
            # Parallel builds share memory under /dev/shm, which containers keep at 64 MB.
            log.info("index build of space %s goes on without parallel workers", want.space_id)
            await conn.execute(_ONE_PROCESS)
            await _create(conn, want)


_DROP = """drop index concurrently if exists {index}"""

_CREATE = """create index concurrently {index} on {vectors} using hnsw (embedding {operators})"""


async def _create(conn: Conn, want: Wanted) -> None:
    index, operators = name(want.space_id, want.distance), f"{want.column_type}_{_OPERATORS[want.distance]}"
    await conn.execute(_DROP.format(index=index))
    await conn.execute(vectors.for_space(_CREATE, want.space_id, index=index, operators=operators))


async def drop_others(store: Store, want: Wanted) -> None:
    """Drop the indexes for other distances, once queries no longer use them."""
    async with store.dedicated("memory-index") as conn:
        for distance in _OPERATORS:
            if distance != want.distance:
                await conn.execute(_DROP.format(index=name(want.space_id, distance)))
