"""What autoscalers ask for: how much work there is for workers."""

from __future__ import annotations

import asyncpg
import pytest

from memory_operator.store.db.migrate import migrate

QUERY = "select chunks from memory_pending_work"
"""The chart's own (tests/chart/test_render.py)."""


@pytest.fixture
async def conn(empty_database_url: str) -> asyncpg.Connection:
    await migrate(empty_database_url)
    return await asyncpg.connect(empty_database_url)


async def test_no_work_is_zero_and_each_kind_of_work_is_more(conn: asyncpg.Connection) -> None:
    await conn.execute("set session_replication_role = replica")  # rows without what they belong to
    assert await conn.fetchval(QUERY) == 0
    job = await conn.fetchval(
        "insert into memory_reembed_jobs (space_id, bound, total, done) values (1, 500, 500, 100) returning id"
    )
    assert await conn.fetchval(QUERY) == 400
    await conn.execute("update memory_reembed_jobs set done = total")
    assert await conn.fetchval(QUERY) == 1, "its index is still to be built"
    await conn.execute("update memory_reembed_jobs set state = 'paused', paused_for = 'budget'")
    assert await conn.fetchval(QUERY) == 1, "a worker lets it go on when its budget allows more"
    await conn.execute("update memory_reembed_jobs set paused_for = 'user'")
    assert await conn.fetchval(QUERY) == 0
    await conn.execute("update memory_reembed_jobs set state = 'done', paused_for = null where id = $1", job)
    await conn.execute("insert into memory_embedding_pending (space_id, chunk_id) values (1, 1), (1, 2)")
    assert await conn.fetchval(QUERY) == 2
    refused = """
    insert into memory_embedding_quarantine (space_id, chunk_id, reason, retry_at)
    values (1, $1, '', $2::text::timestamptz)
    """
    await conn.execute(refused, 3, "-infinity")
    await conn.execute(refused, 4, "infinity")
    assert await conn.fetchval(QUERY) == 3
    await conn.close()
