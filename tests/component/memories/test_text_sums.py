"""How much text there is: always known, also of what was stored before it was counted."""

from __future__ import annotations

import asyncio

import pytest

from fixtures.engine import World
from fixtures.memories import AGENT, Memories, config
from fixtures.waiting import until
from memory_operator.engine.memories.remember import Changes
from memory_operator.memory.chunking import tokens_of
from memory_operator.store.memories import text_sums
from memory_operator.store.memories.text_sums import CIPHER_BYTES, backfill_slice

LONG = "\n\n".join(f"Paragraph {number}: " + "words and more words. " * 40 for number in range(6))

REAL = """
select project_id, count(*) as chunks, sum(octet_length(text)) as bytes from memory_chunks where live
group by project_id order by project_id
"""

SUMMED = """
select project_id, sum(chunks)::bigint as chunks, sum(bytes)::bigint as bytes from memory_text_sums
group by project_id having sum(chunks) <> 0 or sum(bytes) <> 0 order by project_id
"""


async def is_right(world: World) -> None:
    """The sums are what is there."""
    found = [[tuple(row) for row in await world.fetch(statement)] for statement in (SUMMED, REAL)]
    assert found[0] == found[1]


async def forget_sums(world: World) -> None:
    """As a store of the release before is after the migration."""
    await world.fetch("delete from memory_text_sums")
    await world.fetch(
        "update memory_text_sums_backfill set walked = 0, bound = (select coalesce(max(id), 0) from memory_chunks)"
    )


async def estimated(world: World, prefix: str = "") -> int:
    async with world.store.connection() as conn:
        return await text_sums.estimated_tokens(conn, len(prefix.encode()))


async def counted(world: World, prefix: str = "") -> int:
    """What the texts count for one by one."""
    sizes = await world.fetch("select octet_length(text) as size from memory_chunks where live")
    return sum(tokens_of(row["size"] - CIPHER_BYTES + len(prefix.encode())) for row in sizes)


async def change_some(memories: Memories, names: str) -> None:
    """Add, change, forget, purge."""
    stored = [await memories.add(f"{name} {LONG}", project=f"p{number % 2}") for number, name in enumerate(names)]
    await memories.remember.amend(memories.tenant, stored[0].id, Changes("short now"), AGENT)
    await memories.remember.forget(memories.tenant, stored[1].id, AGENT)
    await memories.remember.purge(memories.tenant, stored[2].id, AGENT)


async def test_the_sums_follow_every_change(world: World, memories: Memories) -> None:
    await memories.space(config())
    await change_some(memories, "abcd")
    await is_right(world)
    assert await world.value("select count(*) from memory_text_sums") >= 2


async def test_what_was_stored_before_is_added_up_in_slices_while_memories_change(
    world: World, memories: Memories
) -> None:
    await memories.space(config())
    stored = [await memories.add(f"{number} {LONG}") for number in range(6)]
    await forget_sums(world)
    assert await backfill_slice(world.store, 5) is False
    # Some of what goes now was added up already, some was not.
    for number in (0, 5):
        await memories.remember.forget(memories.tenant, stored[number].id, AGENT)
    await memories.add(f"new {LONG}")
    adding = asyncio.create_task(change_some(memories, "efgh"), name="changes")
    while not await backfill_slice(world.store, 3):
        pass
    await adding
    await is_right(world)
    assert await backfill_slice(world.store) is True


async def test_a_slice_that_was_cut_off_is_begun_again(world: World, memories: Memories) -> None:
    await memories.space(config())
    await memories.add(LONG)
    await forget_sums(world)
    async with world.store.dedicated("cut off") as conn:
        await conn.execute("begin")
        assert await conn.fetchval(text_sums._ADD_SLICE, 3) is False
        conn.terminate()
    while not await backfill_slice(world.store, 3):
        pass
    await is_right(world)


async def test_a_worker_adds_up_what_was_stored_before(world: World, memories: Memories) -> None:
    await memories.space(config())
    await memories.add(LONG)
    await forget_sums(world)
    async with world.worker():
        await until(
            lambda: world.value("select walked >= bound from memory_text_sums_backfill"), "the texts are added up"
        )
    await is_right(world)


@pytest.mark.parametrize("prefix", ["", "search_document: "])
async def test_the_estimate_is_what_the_texts_count_for_and_does_not_fall_as_the_store_grows(
    world: World, prefix: str
) -> None:
    before = 0
    for size, count in ((900, 40), (333, 40), (30, 1100), (5, 50)):
        await world.stored_texts([f"{number:04} {'x' * number}"[:size].ljust(size, "y") for number in range(count)])
        found = await estimated(world, prefix)
        assert found == pytest.approx(await counted(world, prefix), rel=0.05)
        assert found > before
        before = found


async def test_the_estimate_of_a_store_that_is_not_added_up_yet_is_made_of_what_is(world: World) -> None:
    await world.stored_texts(["x" * 400] * 30)
    await forget_sums(world)
    assert await estimated(world) == pytest.approx(await counted(world), rel=0.05)
    await backfill_slice(world.store, 10)
    assert await estimated(world) == pytest.approx(await counted(world), rel=0.05)
