"""Queries of several tenants at once."""

from __future__ import annotations

import asyncio

from fixtures.memories import Memories, config
from fixtures.waiting import ends
from memory_operator.engine.memories.recall import Recall
from memory_operator.turns import Turns

NEVER = 1e6
"""Seconds after which a query that is at work would no longer count as such."""


async def test_beside_another_tenant_a_busy_one_has_few_queries_at_work_and_the_other_waits_for_none_of_the_rest(
    memories: Memories,
) -> None:
    world = memories.world
    turns = Turns(128, at_work_beside=1, at_work_seconds=NEVER, clock=lambda: 0.0)  # who was there once stays
    recall = Recall(world.store, world.connector, world.keys, turns)
    await memories.space(config())
    for tenant in ("busy", "small"):
        await memories.add("the cat sleeps on the mat", tenant=tenant)
    turns.give_back(await turns.take("small", "caller"))
    at_work = await turns.take("busy", "caller")
    queries = [
        asyncio.create_task(recall.query("busy", "default", "cat"), name=f"query {number}") for number in range(64)
    ]
    for _ in range(10):
        assert (await ends(recall.query("small", "default", "cat"), "the small tenant's query")).results
    assert not any(query.done() for query in queries)
    turns.give_back(at_work)
    for answer in await ends(asyncio.gather(*queries), "the busy tenant's queries"):
        assert answer.results
