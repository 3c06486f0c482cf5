"""Connections of a pool, when more callers want one than there are."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from fixtures.engine import World
from fixtures.waiting import ends
from memory_operator.store.db.pool import CALLER, TENANT, open_store


async def test_who_has_the_fewest_connections_gets_the_next_one(world: World) -> None:
    served: list[str] = []

    async with await open_store(world.dsn, application="test", max_size=2) as store:

        async def work(caller: str) -> None:
            CALLER.set(caller)
            async with store.connection() as conn:
                served.append(caller)
                await conn.execute("select 1")

        async with AsyncExitStack() as taken:
            CALLER.set("busy")
            for _ in range(2):
                await taken.enter_async_context(store.connection())
            tasks = []
            for caller in ("busy", "busy", "busy", "busy", "single"):
                tasks.append(asyncio.create_task(work(caller), name=caller))
                await asyncio.sleep(0)
        await ends(asyncio.gather(*tasks), "all are served")
    assert "single" in served[:2], "two connections are given back at once"
    assert served.count("busy") == 4


async def test_the_callers_of_one_tenant_have_its_turns_however_many_they_are(world: World) -> None:
    served: list[str] = []

    async with await open_store(world.dsn, application="test", max_size=2) as store:

        async def work(tenant: str, caller: str) -> None:
            TENANT.set(tenant)
            CALLER.set(caller)
            async with store.connection() as conn:
                served.append(tenant)
                await conn.execute("select 1")

        async with AsyncExitStack() as taken:
            for _ in range(2):
                await taken.enter_async_context(store.connection())
            tasks = []
            for number in range(16):
                tasks.append(asyncio.create_task(work("busy", f"pod {number}"), name=f"busy {number}"))
                await asyncio.sleep(0)
            tasks.append(asyncio.create_task(work("single", "pod"), name="single"))
            await asyncio.sleep(0)
        await ends(asyncio.gather(*tasks), "all are served")
    assert "single" in served[:2], "two connections are given back at once"
    assert served.count("busy") == 16


async def test_who_gives_up_waiting_takes_nobodys_connection(world: World) -> None:
    async with await open_store(world.dsn, application="test", max_size=1) as store:
        async with store.connection():
            waiting = asyncio.create_task(store.connection().__aenter__(), name="waiting")
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with store.connection() as conn:
            assert await conn.fetchval("select 1") == 1
