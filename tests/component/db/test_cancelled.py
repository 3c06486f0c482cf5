"""What is told when the database is gone while something works with it, and when that is cancelled as well."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from fixtures.engine import World
from fixtures.waiting import ends, until
from memory_operator.errors import StoreUnavailable
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


@pytest.mark.parametrize("use", ["connection", "transaction"])
async def test_a_session_that_is_lost_in_use_is_told_as_a_store_that_is_unavailable(world: World, use: str) -> None:
    async def work() -> None:
        async with getattr(world.store, use)() as conn:
            await lose(world, conn)
            await conn.fetchval("select 1")

    with pytest.raises(StoreUnavailable):
        await work()
    async with world.store.connection() as conn:
        assert await conn.fetchval("select 1") == 1


async def test_an_error_of_ones_own_stays_what_it_is_where_the_session_is_lost_too(world: World) -> None:
    async def work() -> None:
        async with world.store.connection() as conn:
            await lose(world, conn)
            raise LookupError

    with pytest.raises(LookupError):
        await work()


async def test_a_session_that_is_lost_while_it_goes_back_to_the_pool_is_told_as_unavailable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reset(conn: asyncpg.Connection) -> None:
        monkeypatch.undo()
        await lose(world, conn)

    async def work() -> None:
        async with world.store.connection() as conn:
            await conn.fetchval("select 1")

    monkeypatch.setattr(asyncpg.Connection, "_reset", reset)
    with pytest.raises(StoreUnavailable):
        await work()
