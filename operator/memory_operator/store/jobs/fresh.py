"""Tables that a rebuild fills afresh: as fast as a first fill, while queries and writes go on with the space's own.

Once all vectors are made, what the space got meanwhile is copied, and the two tables change names in one transaction.
"""

from __future__ import annotations

from memory_operator.store.db.pool import Conn, Store, limit_lock_waits
from memory_operator.store.jobs import jobs
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import Space

_SLICE = 500
"""Vectors copied in one transaction, into a table that has its index already."""

_LOCK_TIMEOUT_MS = 100
"""Queries queue behind whoever waits for the table of vectors, or of chunks."""

_IS_THERE = """select to_regclass($1) is not null"""


async def prepare(store: Store, space: Space, job_id: int) -> None:
    """Make the table of a job, unless it is there or the job has ended. Raises LockBusy.

    Every writer of chunks that did not know of it has committed: `vectors.forget` finds all that come later.
    """
    name = vectors.table(space.id, job_id)
    async with store.connection() as conn:
        if await conn.fetchval(_IS_THERE, name):
            return
    async with store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        if await jobs.is_running(conn, job_id) and not await conn.fetchval(_IS_THERE, name):
            await vectors.create_table(conn, space.id, space.column_type, space.dimensions, job_id)


_MISSING = """
select v.chunk_id from {vectors} v where v.chunk_id > $1
and not exists (select from {fresh} f where f.chunk_id = v.chunk_id) order by v.chunk_id limit $2
"""

_COPY = """
insert into {fresh} (chunk_id, project_id, embedding)
select v.chunk_id, v.project_id, v.embedding from memory_chunks c join {vectors} v on v.chunk_id = c.id
where c.id = any($1) and c.live order by c.id for share of c on conflict (chunk_id) do nothing
"""


async def copy_missing(store: Store, space_id: int, job_id: int) -> None:
    """Copy what the space has and the job's table lacks: what was added meanwhile, or is refused now."""
    after = 0
    while True:
        async with store.transaction() as conn:
            ids = await _missing(conn, space_id, job_id, after)
            await conn.execute(_for_both(_COPY, space_id, job_id), ids)
        if len(ids) < _SLICE:
            return
        after = ids[-1]


async def _missing(conn: Conn, space_id: int, job_id: int, after: int) -> list[int]:
    rows = await conn.fetch(_for_both(_MISSING, space_id, job_id), after, _SLICE)
    return [row["chunk_id"] for row in rows]


def _for_both(statement: str, space_id: int, job_id: int) -> str:
    return vectors.for_space(statement, space_id, fresh=vectors.table(space_id, job_id))


_FORGET_DEAD = """
delete from {fresh} f where not exists (select from memory_chunks c where c.id = f.chunk_id and c.live)
"""

_VACUUM = """vacuum (analyze) {fresh}"""


async def tidy(store: Store, space_id: int, job_id: int) -> None:
    """Leave out what release 0.1 forgot meanwhile, which knows of no such table; have the planner know the table."""
    async with store.dedicated("memory-index") as conn:
        await conn.execute(_for_both(_FORGET_DEAD, space_id, job_id))
        await conn.execute(_for_both(_VACUUM, space_id, job_id))


_KEEP_WRITERS_OUT = """lock table {vectors}, {fresh} in exclusive mode"""

_SETTLE_QUARANTINED = """
delete from memory_embedding_quarantine q where q.space_id = $1
and exists (select from {fresh} f where f.chunk_id = q.chunk_id)
"""

_SETTLE_PENDING = """
delete from memory_embedding_pending w where w.space_id = $1
and exists (select from {fresh} f where f.chunk_id = w.chunk_id)
"""

_COUNT = """select count(*) from {fresh}"""

_SET_ASIDE = """alter table {vectors} rename to {aside}"""

_TAKE_PLACE = """alter table {fresh} rename to {vectors}"""

_INDEXES = """
select i.indexrelid::regclass::text as name, c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = $1::regclass
"""

_RENAME_INDEX = """alter index {name} rename to {renamed}"""

_SHOW_ACTIVE = """select memory_show_active()"""


async def take_place(conn: Conn, space_id: int, job_id: int) -> None:
    """Let the job's table be the space's from now on; the old one is set aside until `drop_left_over`.

    The registry is locked exclusively. Queries wait for the renaming alone. Raises LockBusy.
    """
    fresh, aside = vectors.table(space_id, job_id), f"{vectors.table(space_id)}_old_{int(job_id)}"
    await conn.execute(_for_both(_KEEP_WRITERS_OUT, space_id, job_id))
    after = 0
    while ids := await _missing(conn, space_id, job_id, after):
        await conn.execute(_for_both(_COPY, space_id, job_id), ids)
        after = ids[-1]
    await conn.execute(_for_both(_SETTLE_QUARANTINED, space_id, job_id), space_id)
    await conn.execute(_for_both(_SETTLE_PENDING, space_id, job_id), space_id)
    there = await conn.fetchval(_for_both(_COUNT, space_id, job_id))
    counted = (await registry.counted(conn, [space_id])).get(space_id, 0)
    await limit_lock_waits(conn, _LOCK_TIMEOUT_MS)
    await conn.execute(vectors.for_space(_SET_ASIDE, space_id, aside=aside))
    await _rename_indexes(conn, aside, vectors.table(space_id), aside)
    await conn.execute(_for_both(_TAKE_PLACE, space_id, job_id))
    await _rename_indexes(conn, vectors.table(space_id), fresh, vectors.table(space_id))
    await conn.execute(_SHOW_ACTIVE)
    await registry.count(conn, {space_id: there - counted})


async def _rename_indexes(conn: Conn, table: str, begin: str, instead: str) -> None:
    for row in await conn.fetch(_INDEXES, table):
        renamed = instead + row["relname"].removeprefix(begin)
        await conn.execute(_RENAME_INDEX.format(name=row["name"], renamed=renamed))


_LEFT_OVER = """
select c.relname from pg_class c where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
and c.relname ~ '^memory_vectors_[0-9]+_(job|old)_[0-9]+$' and not exists (select from memory_reembed_jobs j
  where j.state in ('running', 'paused') and c.relname = 'memory_vectors_' || j.space_id || '_job_' || j.id)
"""

_DROP = """drop table if exists {name}"""


async def drop_left_over(store: Store) -> None:
    """Drop tables that were set aside, and those of jobs that were cancelled, or whose space is gone.

    Raises LockBusy: dropping waits for who reads chunks, since each table refers to them.
    """
    async with store.connection() as conn:
        names = [row["relname"] for row in await conn.fetch(_LEFT_OVER)]
    for name in names:
        async with store.transaction(lock_timeout_ms=_LOCK_TIMEOUT_MS) as conn:
            await conn.execute(_DROP.format(name=name))
