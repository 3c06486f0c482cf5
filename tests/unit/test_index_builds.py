"""Builds of indexes: as many at a time as are allowed, one of a space, and none that fails holds up another."""

from __future__ import annotations

import asyncio

from fixtures.waiting import until
from memory_operator.engine.fill.index_builds import MOST_BUILDS, IndexBuilds


async def test_no_more_builds_run_than_are_allowed_and_one_of_a_space() -> None:
    begun: list[int] = []
    release = asyncio.Event()
    ended: list[None] = []
    async with asyncio.TaskGroup() as group:
        builds = IndexBuilds(group, lambda: ended.append(None))

        def begin(space_id: int) -> None:
            async def build() -> None:
                begun.append(space_id)
                await release.wait()

            builds.begin(space_id, build)

        for space_id in [*range(MOST_BUILDS + 2), 0]:
            begin(space_id)
        await asyncio.sleep(0)
        assert begun == list(range(MOST_BUILDS))
        assert builds.is_running(0)
        assert not builds.is_running(MOST_BUILDS)
        release.set()
        await until(lambda: len(ended) == MOST_BUILDS, "the first builds have ended")
        begin(MOST_BUILDS)
    assert begun == list(range(MOST_BUILDS + 1))


async def test_a_build_that_failed_is_not_begun_again_at_once_and_ends_no_other() -> None:
    tries: list[int] = []
    async with asyncio.TaskGroup() as group:
        builds = IndexBuilds(group, lambda: None)

        async def fail() -> None:
            tries.append(1)
            raise RuntimeError("the disk is full")

        async def build() -> None:
            tries.append(2)

        builds.begin(1, fail)
        builds.begin(2, build)
        await until(lambda: not builds.is_running(1) and not builds.is_running(2), "both builds have ended")
        builds.begin(1, fail)
        assert not builds.is_running(1)
        builds.begin(2, build)
        assert builds.is_running(2)
    assert tries == [1, 2, 2]


async def test_builds_end_when_the_worker_stops() -> None:
    async with asyncio.TaskGroup() as group:
        builds = IndexBuilds(group, lambda: None)

        async def never() -> None:
            await asyncio.Event().wait()

        builds.begin(1, never)
        await asyncio.sleep(0)
        builds.cancel()
    assert not builds.is_running(1)
