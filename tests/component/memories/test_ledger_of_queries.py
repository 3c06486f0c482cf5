"""The ledger's rows of queries: written in batches, and none of them lost but by the death of the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fixtures.api import serve
from fixtures.engine import World
from fixtures.memories import Memories, config
from fixtures.statements import statements
from fixtures.waiting import until
from memory_operator.engine.embedding.ledger_rows import QueryRows
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage.ledger import Intent, Outcome, Share
from vendor import Fault, StubVendor

TEXT = "the cat sleeps on the mat"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
async def space(memories: Memories, vendor: StubVendor) -> Space:
    made = await memories.space(config(64, type="openai_compatible", base_url=vendor.base_url))
    await memories.add(TEXT)
    vendor.forget()
    return made


async def rows(world: World) -> list[Any]:
    return await world.fetch(
        "select state, tokens, inputs, ended_at >= at as ends_after, at <= now() as has_begun, space_id"
        " from memory_usage_ledger where purpose = 'query' order by id"
    )


def counted(world: World, name: str, **labels: str) -> float:
    return world.store.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def refusing(world: World) -> AsyncIterator[None]:
    """The disk has no room for the ledger meanwhile."""
    await world.fetch(
        "create function full_disk() returns trigger language plpgsql as"
        " $$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$"
    )
    await world.fetch(
        "create trigger full_disk before insert on memory_usage_ledger for each statement execute function full_disk()"
    )
    try:
        yield
    finally:
        await world.fetch("drop trigger full_disk on memory_usage_ledger")


def intent(space: Space) -> Intent:
    return Intent.of(space, "query", [Share(1, 1, 5)])


async def test_a_thousand_queries_are_written_by_one_statement(world: World, space: Space) -> None:
    of_queries = QueryRows(world.store)
    async with statements(world.store) as sent:
        async with of_queries.in_batches():
            for _ in range(1_000):
                entry = await of_queries.begin(intent(space))
                await of_queries.end([Outcome(entry, "answered", 5)])
        assert sum("memory_usage_ledger" in one for one in sent) == 1
    assert await world.value("select count(distinct call_id) from memory_usage_ledger where purpose = 'query'") == 1_000
    assert counted(world, "memory_embedder_calls_total", purpose="query", ending="answered") == 1_000


async def test_a_query_sends_nothing_about_the_ledger_and_its_row_is_there_after_a_stop(
    world: World, memories: Memories, vendor: StubVendor, space: Space
) -> None:
    async with statements(world.store) as sent:
        async with memories.recall.ledger_in_batches():
            answers = await asyncio.gather(*(memories.query(f"cat number {number}") for number in range(20)))
        about_it = [one for one in sent if "memory_usage_ledger" in one]
    assert all(answer.diagnostics.semantic_status == "ok" for answer in answers)
    assert [one for one in about_it if "unnest($1::uuid[]" not in one] == []
    found = await rows(world)
    assert len(found) == vendor.count == 20
    assert {(row["state"], row["inputs"], row["ends_after"], row["space_id"]) for row in found} == {
        ("answered", 1, True, space.id)
    }
    assert sum(row["tokens"] for row in found) == sum(len(text) // 4 + 1 for text in vendor.inputs)


async def test_an_api_that_is_stopped_has_written_the_rows_of_its_queries(
    world: World, vendor: StubVendor, space: Space
) -> None:
    async with serve(world) as api:
        for number in range(3):
            answer = await api.post("/memory/query", {"query": f"cat number {number}"})
            assert answer.json()["diagnostics"]["semantic_status"] == "ok"
    assert [row["state"] for row in await rows(world)] == ["answered"] * vendor.count == ["answered"] * 3


async def test_without_the_task_that_writes_a_row_is_there_before_its_call(
    world: World, memories: Memories, vendor: StubVendor, space: Space
) -> None:
    vendor.fault = Fault(hold=True)
    query = asyncio.create_task(memories.query("cat"), name="a query")
    await until(lambda: vendor.count == 1, "the call is under way")
    assert [row["state"] for row in await rows(world)] == ["sent"]
    vendor.fault = None
    await query
    assert [row["state"] for row in await rows(world)] in (["answered"], ["unanswered"])


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Fault(status=400), "refused"),
        (Fault(reset="before"), "unanswered"),
        (Fault(hold=True), "unanswered"),
        (Fault(length=3), "unusable"),
    ],
)
async def test_a_call_without_vectors_has_its_row(
    world: World, memories: Memories, vendor: StubVendor, space: Space, fault: Fault, state: str
) -> None:
    async with memories.recall.ledger_in_batches():
        vendor.fault = fault
        answer = await memories.query("cat")
        vendor.fault = None
    assert answer.diagnostics.semantic_status == "embedder_unavailable"
    found = [row["state"] for row in await rows(world)]
    assert len(found) == vendor.count
    assert set(found) == {state}


async def test_a_call_that_takes_long_is_there_as_under_way_and_then_completed(world: World, space: Space) -> None:
    of_queries = QueryRows(world.store)
    async with of_queries.in_batches():
        entry = await of_queries.begin(intent(space))

        async def states() -> list[str]:
            return [row["state"] for row in await rows(world)]

        async def under_way() -> bool:
            return await states() == ["sent"]

        await until(under_way, "it is written down as under way")
        await of_queries.end([Outcome(entry, "answered", 7)])
    [row] = await rows(world)
    assert (row["state"], row["tokens"], row["ends_after"], row["has_begun"]) == ("answered", 7, True, True)


async def test_a_database_that_refuses_for_a_while_loses_no_row(
    world: World, memories: Memories, vendor: StubVendor, space: Space
) -> None:
    async with memories.recall.ledger_in_batches():
        async with refusing(world):
            for number in range(5):
                answer = await memories.query(f"cat number {number}")
                assert answer.diagnostics.semantic_status == "ok"
            await until(lambda: counted(world, "memory_ledger_retries_total") > 0, "the database has refused")
            assert await rows(world) == []

        async def all_there() -> bool:
            return len(await rows(world)) == 5

        await until(all_there, "the rows are written")
    assert [row["state"] for row in await rows(world)] == ["answered"] * 5
    assert counted(world, "memory_ledger_failures_total") == 0


async def test_with_many_rows_waiting_the_next_one_is_written_before_its_call(world: World, space: Space) -> None:
    of_queries = QueryRows(world.store, most=1)
    async with of_queries.in_batches():
        waits = await of_queries.begin(intent(space))
        at_once = await of_queries.begin(intent(space))
        assert await world.value("select state from memory_usage_ledger where call_id = $1", at_once.call_id) == "sent"
        await of_queries.end([Outcome(waits, "answered", 1), Outcome(at_once, "answered", 2)])
    assert sorted((row["state"], row["tokens"]) for row in await rows(world)) == [("answered", 1), ("answered", 2)]


async def test_a_stop_while_the_database_refuses_counts_what_it_loses(world: World, space: Space) -> None:
    of_queries = QueryRows(world.store, stop_seconds=0.1)
    async with refusing(world), of_queries.in_batches():
        for _ in range(3):
            await of_queries.end([Outcome(await of_queries.begin(intent(space)), "answered", 1)])
    assert counted(world, "memory_ledger_failures_total") == 3


async def test_a_row_of_a_space_that_was_discarded_meanwhile_is_kept(world: World, space: Space) -> None:
    of_queries = QueryRows(world.store)
    async with of_queries.in_batches():
        await of_queries.end([Outcome(await of_queries.begin(intent(space)), "answered", 1)])
        await world.fetch("update memory_registry set active_space_id = null")
        await world.fetch("delete from memory_embedding_spaces where id = $1", space.id)
    [row] = await rows(world)
    assert (row["state"], row["space_id"]) == ("answered", None)
