"""What an add asks of the database: few statements, and no row that another add waits for."""

from __future__ import annotations

from contextlib import AsyncExitStack
from uuid import uuid4

import numpy as np
import pytest

from fixtures.memories import Memories, config
from fixtures.statements import statements
from memory_operator.engine.memories import version_write
from memory_operator.engine.memories.embed_on_write import Made
from memory_operator.engine.memories.prepare import NewMemory, prepare, seal
from memory_operator.engine.memories.version_write import Vectors, VersionWrite
from memory_operator.store.db.pool import open_store
from memory_operator.store.memories import new_versions
from memory_operator.store.spaces.spaces import Space
from vendor import StubVendor

GERMAN = "Der Betreiber richtet die Spalten nach dem Modell und löscht keinen Vektor ohne Zustimmung."


async def sent_by_an_add(memories: Memories, text: str) -> list[str]:
    """The fewest statements that one of some adds sends: a machine that stands still adds retries."""
    fewest: list[str] | None = None
    async with statements(memories.world.store) as sent:
        for number in range(2 * memories.world.store.pool_size):
            await memories.add(f"{text} {number} first")  # tenant, project, spaces and settings are known from now on
        for number in range(10):
            sent.clear()
            await memories.add(f"{text} {number} second")
            if fewest is None or len(sent) < len(fewest):
                fewest = list(sent)
    assert fewest is not None
    return fewest


@pytest.mark.parametrize("text", ["The operator sizes the columns.", GERMAN], ids=["english", "german"])
async def test_an_add_sends_one_statement_before_the_call_one_after_it_and_one_transaction(
    memories: Memories, text: str
) -> None:
    with StubVendor(64) as vendor:
        await memories.space(config(64, type="openai_compatible", base_url=vendor.base_url))
        sent = await sent_by_an_add(memories, text)
    assert len(sent) == 5, [" ".join(one.split())[:90] for one in sent]
    assert "insert into memory_usage_ledger" in sent[0]
    assert "update memory_usage_ledger" in sent[1]
    assert sent[2].startswith("begin; ")
    assert sent[4] == "commit"


async def test_an_add_whose_vectors_in_another_space_are_to_come_sends_six(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(config(64, type="openai_compatible", base_url=vendor.base_url))
        await memories.space(config(32), "other", active=False)
        assert len(await sent_by_an_add(memories, "The operator sizes the columns.")) == 6


async def test_an_add_that_calls_no_vendor_sends_four(memories: Memories) -> None:
    await memories.space(config(type="mock"))
    assert len(await sent_by_an_add(memories, "The operator sizes the columns.")) == 4


OPEN_AT_ONCE = 20
"""More than the counters of release 0.1 have rows."""


async def a_write(memories: Memories, space: Space, text: str) -> VersionWrite:
    """A memory of one chunk, with its vector, ready to be stored."""
    world = memories.world
    owner = await world.keys.tenant(world.store, memories.tenant)
    prepared = await prepare(NewMemory(text), owner.key)
    project_id = await world.keys.project(world.store, owner, "default")
    version, chunks = await seal(prepared, owner.key, uuid4(), 1, project_id, "test")
    made = {space.id: Made({0: np.ones(space.dimensions, dtype=np.float32)})}
    return VersionWrite("default", version, chunks, Vectors([space], {space.id: [0]}, made))


async def test_adds_of_one_project_in_open_transactions_do_not_wait_for_each_other(memories: Memories) -> None:
    space = await memories.space(config())
    await memories.add("The first one makes the rows.")
    dsn = memories.world.dsn
    async with (
        await open_store(dsn, application="memory-test", max_size=OPEN_AT_ONCE) as store,
        AsyncExitStack() as stack,
    ):
        for number in range(OPEN_AT_ONCE):
            conn = await stack.enter_async_context(store.begun(new_versions.BEGIN))
            await version_write.store(conn, [await a_write(memories, space, f"Number {number}.")])
    assert await memories.counted() == {0: OPEN_AT_ONCE + 1, space.id: OPEN_AT_ONCE + 1}
    assert await memories.world.value("select sum(chunks)::int from memory_text_sums") == OPEN_AT_ONCE + 1
