"""What adds leave written on the rows that all of them use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fixtures.memories import Memories, config
from vendor import StubVendor

AT_ONCE = 16


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(64) as stub:
        yield stub


@pytest.mark.parametrize("table", ["memory_registry", "memory_projects", "memory_tenants", "memory_embedding_spaces"])
async def test_adds_at_the_same_time_lock_no_row_that_all_of_them_use(
    memories: Memories, vendor: StubVendor, table: str
) -> None:
    await memories.space(config(type="openai_compatible", base_url=vendor.base_url))
    await memories.add("The first one makes the rows.")

    async def rows() -> list[tuple[str, ...]]:
        """Where each row is, and who wrote and who locked it last: a lock of a row is written to it."""
        found = await memories.world.fetch(f"select ctid::text, xmin::text, xmax::text from {table}")
        return [tuple(row) for row in found]

    before = await rows()
    assert len(before) == 1
    for wave in range(3):
        await asyncio.gather(*(memories.add(f"Number {number} of wave {wave}.") for number in range(AT_ONCE)))
    assert await rows() == before
