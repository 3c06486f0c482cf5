"""What a query asks of the database: few statements, none to clean a connection, and never another space's answer."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from fixtures.engine import World
from fixtures.memories import Memories, config
from fixtures.statements import statements
from memory_operator.store.memories.nearest import Filters
from memory_operator.store.spaces import registry, spaces
from vendor import StubVendor

TEXTS = ("the cat sleeps on the mat", "a dog barks at the moon", "the moon shines on the cat")


async def make_active(world: World, space: spaces.Space) -> None:
    """Switch without a word to anybody: as if the notification were lost."""
    async with world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        await spaces.activate(conn, space, "test")


FOUND = Filters(type="animal")


@pytest.mark.parametrize(
    ("question", "filters"), [("cat moon", None), ("zebra moon cat", None), ("a zebra", None), ("cat", FOUND)]
)
async def test_a_query_sends_three_statements(memories: Memories, question: str, filters: Filters | None) -> None:
    await memories.space(config())
    await three_statements(memories, question, filters)


async def test_a_query_sends_three_statements_where_a_vendor_embeds(memories: Memories) -> None:
    with StubVendor(dimensions=64) as vendor:
        await memories.space(config(64, type="openai_compatible", base_url=vendor.base_url))
        async with memories.recall.ledger_in_batches():
            await three_statements(memories, "cat moon", None)


async def three_statements(memories: Memories, question: str, filters: Filters | None) -> None:
    """Assert that a query sends no more, once tenant, project, space, sizes and settings are known."""
    for text in TEXTS:
        await memories.add(text, type="animal")
    async with statements(memories.world.store) as sent:
        for _ in range(2 * memories.world.store.pool_size):
            await memories.query(question, filters=filters)
        counts = []
        for _ in range(10):
            sent.clear()
            answer = await memories.query(question, filters=filters)
            assert answer.results
            counts.append(sum("memory_usage_ledger" not in one for one in sent))
    assert min(counts) <= 3, [" ".join(one.split())[:90] for one in sent]  # a machine that stands still adds retries


async def test_a_connection_is_told_its_settings_once_and_forgets_them_for_the_next(memories: Memories) -> None:
    store = memories.world.store
    show = "select current_setting($1)"
    async with statements(store) as sent:
        for _ in range(3):
            async with store.connection({"statement_timeout": "700ms"}) as conn:
                assert await conn.fetchval(show, "statement_timeout") == "700ms"
    assert sum("set_config" in one for one in sent) <= store.pool_size
    async with AsyncExitStack() as stack:
        for _ in range(store.pool_size):
            conn = await stack.enter_async_context(store.connection())
            assert await conn.fetchval(show, "statement_timeout") == "0"
            assert await conn.fetchval(show, "hnsw.ef_search") == "100"


async def test_a_switch_that_nobody_hears_of_costs_a_retry_and_gives_no_answer_of_the_old_space(
    memories: Memories,
) -> None:
    first = await memories.space(config(64, model="one"))
    second = await memories.space(config(32, model="two"), "other", active=False)
    for text in TEXTS:
        await memories.add(text)
    for _ in range(3):
        for space in (first, second):
            await make_active(memories.world, space)
            answer = await memories.query("cat")
            assert answer.diagnostics.embedding_version == space.embedding_version
            assert answer.diagnostics.channels["semantic"].status == "ok"
            assert answer.results


async def test_a_query_after_the_last_space_was_switched_off_says_so(memories: Memories) -> None:
    await memories.space(config())
    await memories.add(TEXTS[0])
    await memories.query("cat")
    async with memories.world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        await registry.set_inactive(conn, "disabled", "test")
    answer = await memories.query("cat")
    assert answer.diagnostics.semantic_status == "disabled"
    assert answer.diagnostics.channels["semantic"].hits == 0
    assert [result.match_kind for result in answer.results] == ["fulltext"]


async def test_a_changed_row_of_the_active_space_is_read_anew_though_nobody_hears_of_it(memories: Memories) -> None:
    space = await memories.space(config())
    await memories.add(TEXTS[0])
    await memories.query("cat")
    async with memories.world.store.transaction() as conn:
        await spaces.set_state(conn, space.id, "filling")
    answer = await memories.query("cat")
    assert answer.diagnostics.semantic_status == "filling"
    assert answer.diagnostics.coverage == 1.0


async def test_a_dropped_space_is_noticed(memories: Memories) -> None:
    first = await memories.space(config(64, model="one"))
    second = await memories.space(config(32, model="two"), "other", active=False)
    await memories.add(TEXTS[0])
    await memories.query("cat")
    await make_active(memories.world, second)
    await memories.world.fetch(f"drop table memory_vectors_{first.id} cascade")
    answer = await memories.query("cat")
    assert answer.diagnostics.embedding_version == second.embedding_version
