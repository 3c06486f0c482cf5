"""A task that is cancelled ends, also when the database is gone at the same moment."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from fixtures.engine import World
from fixtures.waiting import ends, until
from memory_operator.store.db.pool import Conn


async def lose(world: World, conn: Conn) -> None:
    """End a session of the server, and wait until the driver knows."""

    def lost() -> bool:
        try:
            return bool(conn.is_closed())
        except asyncpg.InterfaceError:
            return True

    await world.fetch("select pg_terminate_backend($1)", await conn.fetchval("select pg_backend_pid()"))
    await until(lost, "the driver knows that the session is lost")


async def test_a_task_that_is_cancelled_once_its_session_is_lost_ends_cancelled(world: World) -> None:
    lost = asyncio.Event()

    async def work() -> None:
        async with world.store.transaction() as conn:
            await lose(world, conn)
            lost.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await ends(lost.wait(), "the session is lost")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends(task, "the end of the task")


async def test_a_time_limit_over_a_transaction_is_one_also_when_its_session_is_lost(world: World) -> None:
    async def work() -> None:
        async with asyncio.timeout(None) as limit, world.store.transaction() as conn:
            await lose(world, conn)
            limit.reschedule(0)
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await until(task.done, "the work has ended")
    assert isinstance(task.exception(), TimeoutError)
