"""Rows edited behind our back: what is refused, what is noticed, and what is served as genuine.

The edits are those that the agent memory integrity suite names T1 to T9. docs/security.md has the same table.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.fills import provider, sent
from fixtures.memories import AGENT, Memories, config
from memory_operator.engine.memories.remember import Changes
from memory_operator.memory.encryption import Undecryptable
from vendor.stub import StubVendor

GENUINE, OTHER = "The gate opens once.", "The pump runs at night."


@pytest.fixture
async def stored(memories: Memories) -> list[Any]:
    """Two memories in a full space."""
    await memories.space(config())
    return [(await memories.add(text)).id for text in (GENUINE, OTHER)]


async def refused(memories: Memories, memory: Any) -> None:
    """Assert that a memory is neither read by its id nor found, and that the others are."""
    with pytest.raises(Undecryptable):
        await memories.remember.show("default", memory)
    found = [result.id for result in (await memories.query("gate pump")).results]
    assert memory not in found


async def served(memories: Memories, memory: Any) -> str:
    """The text that is served as genuine."""
    return (await memories.remember.show("default", memory)).memory.text or ""


async def test_t1_an_edited_text_is_refused_told_and_takes_no_other_answer_with_it(
    world: World, memories: Memories, stored: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    await world.fetch("update memory_entries set input = input || '\\x00' where canonical_id = $1", stored[0])
    await world.fetch("update memory_chunks set text = text || '\\x00' where id = (select min(id) from memory_chunks)")
    with caplog.at_level(logging.ERROR):
        await refused(memories, stored[0])
    assert str(stored[0]) in caplog.text
    assert await served(memories, stored[1]) == OTHER


async def test_t4_two_rows_that_swap_their_texts_are_refused_both(
    world: World, memories: Memories, stored: list[Any]
) -> None:
    await world.fetch(
        "update memory_entries e set input = (select o.input from memory_entries o where o.id <> e.id)"
        " where e.canonical_id = any($1)",
        stored,
    )
    for memory in stored:
        await refused(memories, memory)


async def test_t4_chunks_that_swap_their_texts_are_never_sent_to_a_vendor(world: World) -> None:
    await world.stored_texts([GENUINE, OTHER])
    await world.fetch("update memory_chunks c set text = (select o.text from memory_chunks o where o.id <> c.id)")
    with StubVendor(dimensions=64) as vendor:
        ref = world.cluster.apply("memory", provider(vendor))
        async with world.operator(), world.worker():
            await world.until_phase(ref, "Ready")
        assert sent(vendor) == []
    assert await world.value("select count(*) from memory_embedding_quarantine") == 2


async def test_t5_a_forged_row_is_refused(world: World, memories: Memories, stored: list[Any]) -> None:
    forged = await world.value(
        "insert into memory_entries (canonical_id, version_no, project_id, input, created_by)"
        " select gen_random_uuid(), 1, project_id, '\\x01'::bytea || 'forged, without the key'::bytea, 'agent'"
        " from memory_entries where canonical_id = $1 returning canonical_id",
        stored[0],
    )
    with pytest.raises(Undecryptable):
        await memories.remember.show("default", forged)


async def test_t6_a_row_copied_from_another_tenant_is_refused(
    world: World, memories: Memories, stored: list[Any]
) -> None:
    foreign = (await memories.add("A secret of the other tenant.", tenant="other")).id
    await world.fetch(
        "update memory_entries set input = (select input from memory_entries where canonical_id = $2)"
        " where canonical_id = $1",
        stored[0],
        foreign,
    )
    await refused(memories, stored[0])


async def test_t6_a_whole_memory_given_to_another_tenant_is_refused(
    world: World, memories: Memories, stored: list[Any]
) -> None:
    await memories.add("Something of its own.", tenant="other")
    project = await world.value(
        "select p.id from memory_projects p join memory_tenants t on t.id = p.tenant_id where t.name = 'other'"
    )
    await world.fetch("update memory_entries set project_id = $1 where canonical_id = $2", project, stored[0])
    with pytest.raises(Undecryptable):
        await memories.remember.show("other", stored[0])


async def test_t7_the_text_of_an_older_version_is_refused(world: World, memories: Memories, stored: list[Any]) -> None:
    await memories.remember.amend("default", stored[0], Changes(text="The gate is shut."), AGENT)
    await world.fetch(
        "update memory_entries set input = (select o.input from memory_entries o where o.canonical_id = $1"
        " and o.version_no = 1) where canonical_id = $1 and current",
        stored[0],
    )
    await refused(memories, stored[0])


async def test_t2_t3_t8_t9_what_is_not_noticed_is_said_in_the_docs(
    world: World, memories: Memories, stored: list[Any]
) -> None:
    """A row that is gone, a plain field, a vector, and a whole older copy bear no proof of their own."""
    await world.fetch(
        "update memory_entries set tags = '{urgent}', source = 'forged' where canonical_id = $1", stored[0]
    )
    shown = (await memories.remember.show("default", stored[0])).memory
    assert shown.text == GENUINE
    found = [result.id for result in (await memories.query("pump")).results]
    assert stored[1] in found
    await world.fetch("delete from memory_entries where canonical_id = $1", stored[1])
    assert stored[1] not in [result.id for result in (await memories.query("pump")).results]
