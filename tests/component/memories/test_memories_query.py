"""Queries on a real database: channels side by side, and what an answer says when one of them cannot."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.engine import World
from fixtures.memories import AGENT, Memories, config
from memory_operator.engine.memories.channels import CHANNEL_SECONDS, EMBED_SECONDS
from memory_operator.engine.memories.recall import Recall
from memory_operator.engine.memories.remember import Changes
from memory_operator.errors import InvalidInput, StoreUnavailable
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.db.pool import Store, open_store
from memory_operator.store.spaces import registry, spaces, vectors
from memory_operator.store.spaces.vectors import Rows
from vendor import Fault, StubVendor


def by_vendor(vendor: StubVendor, **changes: Any) -> SpaceConfig:
    return config(64, type="openai_compatible", base_url=vendor.base_url, **changes)


async def test_what_both_channels_find_comes_first_and_says_why(memories: Memories) -> None:
    space = await memories.space(config())
    await memories.add("Use tabs for indentation.", tags=("style",), importance=0.75, confidence=0.5)
    await memories.add("Deploys happen on Friday.")
    answer = await memories.query("tabs indentation style", k=2)
    first, second = answer.results
    assert (first.text, first.match_kind) == ("Use tabs for indentation.", "both")
    assert (second.text, second.match_kind) == ("Deploys happen on Friday.", "semantic")
    assert first.score > second.score
    why = first.diagnostics
    assert why.channels["fulltext"].rank == why.channels["semantic"].rank == 1
    assert why.similarity == why.channels["semantic"].score > 0
    assert why.fulltext_score == why.channels["fulltext"].score > 0.5
    assert (why.importance, why.confidence, why.matched_tags) == (0.75, 0.5, ["style"])
    assert 0 <= why.age_seconds < 60
    overall = answer.diagnostics
    assert (overall.semantic_status, overall.reason) == ("ok", None)
    assert overall.embedding_version == space.embedding_version
    assert overall.coverage is None
    assert {name: channel.status for name, channel in overall.channels.items()} == {
        "fulltext": "ok",
        "semantic": "ok",
    }
    assert overall.channels["semantic"].hits == 2
    assert {"resolve", "embed", "search", "read", "total"} <= set(overall.timings_ms)


async def test_everything_that_was_written_comes_back_with_a_result(memories: Memories) -> None:
    await memories.space(config())
    text = "  Kept   as written.\n------\n\tIndented. "
    fields = {"summary": "short", "type": "note", "tags": ("a", "b"), "source": "here", "metadata": {"n": [1, None]}}
    stored = await memories.add(text, **fields)
    result = (await memories.query("kept as written")).results[0]
    assert (result.id, result.project, result.version_no, result.text) == (stored.id, "default", 1, text)
    assert {name: getattr(result.attributes, name) for name in fields} == fields
    assert result.created_at == stored.created_at


async def test_a_query_is_prepared_as_memories_are_and_embedded_as_a_query(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(by_vendor(vendor, document_prefix="doc: ", query_prefix="ask: "))
        await memories.add("One\u00a0 thing")
        answer = await memories.query("One \t thing\u200b ------")
        assert vendor.inputs == ["doc: One thing", "ask: One thing"]
        assert len(answer.results) == 1


async def test_an_unknown_project_or_tenant_has_no_results_and_costs_nothing(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(by_vendor(vendor))
        await memories.add("known")
        for fields in ({"project": "unknown"}, {"tenant": "stranger"}, {"project": "\x00"}):
            answer = await memories.query("known", **fields)
            assert answer.results == ()
            assert answer.diagnostics.semantic_status == "ok"
            assert answer.diagnostics.channels["fulltext"].status == "skipped"
        assert vendor.count == 1
    assert await memories.world.value("select count(*) from memory_projects") == 1


async def test_projects_and_tenants_never_see_each_others_memories(memories: Memories) -> None:
    await memories.space(config())
    for tenant in ("one", "two"):
        for project in ("p", "q"):
            await memories.add(f"shared words of {tenant} {project}", tenant=tenant, project=project)
    answer = await memories.query("shared words", tenant="one", project="q")
    assert [result.text for result in answer.results] == ["shared words of one q"]


async def test_only_current_versions_are_found(memories: Memories) -> None:
    await memories.space(config())
    kept = await memories.add("walrus one")
    gone = await memories.add("walrus two")
    await memories.remember.amend("default", kept.id, Changes("penguin one"), AGENT)
    await memories.remember.forget("default", gone.id, AGENT)
    answer = await memories.query("walrus")
    assert [(result.text, result.version_no, result.match_kind) for result in answer.results] == [
        ("penguin one", 2, "semantic")
    ]
    assert [result.match_kind for result in (await memories.query("penguin")).results] == ["both"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=503), "embedder_unreachable"),
        (Fault(status=429), "rate_limited"),
        (Fault(status=401), "credential_refused"),
        (Fault(length=3), "bad_reply"),
    ],
)
async def test_full_text_stands_in_for_an_embedder_in_trouble(memories: Memories, fault: Fault, reason: str) -> None:
    with StubVendor(64) as vendor:
        space = await memories.space(by_vendor(vendor))
        await memories.add("words that stay findable")
        vendor.fault = fault
        answer = await memories.query("findable")
        assert [result.match_kind for result in answer.results] == ["fulltext"]
        assert answer.diagnostics.semantic_status == "embedder_unavailable"
        assert answer.diagnostics.reason == reason
        assert answer.diagnostics.embedding_version == space.embedding_version
        assert answer.diagnostics.channels["semantic"].status == "skipped"


async def test_a_hanging_embedder_is_waited_for_two_seconds(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(by_vendor(vendor))
        await memories.add("words that stay findable")
        vendor.fault = Fault(hold=True)
        answer = await memories.query("findable")
        assert EMBED_SECONDS == 2
        assert vendor.count == 2
        assert answer.diagnostics.semantic_status == "embedder_unavailable"
        assert [result.text for result in answer.results] == ["words that stay findable"]
        vendor.fault = None


async def test_a_secret_that_cannot_be_read_is_an_unavailable_embedder(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(by_vendor(vendor, credential={"secret": {"name": "absent"}}))
        await memories.add("words that stay findable")
        answer = await memories.query("findable")
        assert (answer.diagnostics.semantic_status, answer.diagnostics.reason) == (
            "embedder_unavailable",
            "secret_missing",
        )
        assert len(answer.results) == 1


@pytest.mark.parametrize(
    ("inactive", "status"),
    [("no_provider", "no_active_space"), ("provider_deleted", "no_active_space"), ("disabled", "disabled")],
)
async def test_without_an_active_space_full_text_answers_and_the_reason_is_given(
    memories: Memories, inactive: str, status: str
) -> None:
    await memories.space(config())
    await memories.add("still here")
    async with memories.world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        await spaces.deactivate(conn, inactive, "test")
    answer = await memories.query("still")
    assert (answer.diagnostics.semantic_status, answer.diagnostics.reason) == (status, inactive)
    assert answer.diagnostics.embedding_version is None
    assert [result.text for result in answer.results] == ["still here"]


async def test_a_filling_space_answers_with_what_it_has_and_its_coverage(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(by_vendor(vendor), state="filling")
        await memories.add("first thing")
        vendor.fault = Fault(status=503)
        await memories.add("second thing")
        await memories.add("third thing")
        await memories.add("fourth thing")
        vendor.fault = None
        answer = await memories.query("first thing")
        assert answer.diagnostics.semantic_status == "filling"
        assert answer.diagnostics.coverage == 0.25
        assert answer.results[0].match_kind == "both"
        assert {result.match_kind for result in answer.results[1:]} == {"fulltext"}
        await memories.world.fetch(
            "insert into memory_embedding_quarantine (space_id, chunk_id, reason)"
            " select space_id, chunk_id, 'bad' from memory_embedding_pending limit 2"
        )
        assert (await memories.query("first")).diagnostics.coverage == 0.5


def one_row(chunk_id: int, vector: NDArray[np.float32]) -> Rows:
    """A vector as the store takes it."""
    return Rows(np.array([chunk_id]), np.array([1], dtype=np.int32), vector[None, :])


async def test_a_space_that_vanishes_while_a_query_is_embedded_is_resolved_once_more(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        old = await memories.space(by_vendor(vendor))
        await memories.add("survivor of the switch")
        vendor.fault = Fault(hold=True)
        querying = asyncio.create_task(memories.query("survivor"), name="query")
        await asyncio.to_thread(vendor.wait_for_calls, 2)
        async with memories.world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await spaces.discard(conn, old)
        new = await memories.space(config(32), "new")
        chunk = await memories.world.value("select id from memory_chunks")
        async with memories.world.store.transaction() as conn:
            await vectors.store(conn, new.id, "vector", one_row(chunk, vendor.vector("x", "m", 32)))
        vendor.fault = None
        answer = await querying
        assert answer.diagnostics.embedding_version == new.embedding_version
        assert answer.diagnostics.semantic_status == "ok"
        assert [result.match_kind for result in answer.results] == ["both"]


async def test_a_space_that_vanishes_for_good_leaves_full_text(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        old = await memories.space(by_vendor(vendor))
        await memories.add("survivor of the deletion")
        vendor.fault = Fault(hold=True)
        querying = asyncio.create_task(memories.query("survivor"), name="query")
        await asyncio.to_thread(vendor.wait_for_calls, 2)
        async with memories.world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await spaces.discard(conn, old)
        vendor.fault = None
        answer = await querying
        assert answer.diagnostics.semantic_status == "no_active_space"
        assert [result.match_kind for result in answer.results] == ["fulltext"]


async def test_a_query_reads_only_the_space_that_embedded_it(memories: Memories) -> None:
    active = await memories.space(config(64, model="one"))
    await memories.space(config(64, model="two"), "other", active=False)
    await memories.add("the same words in both")
    await memories.world.fetch(f"delete from {vectors.table(active.id)}")
    answer = await memories.query("the same words in both")
    assert answer.diagnostics.channels["semantic"].hits == 0
    assert [result.match_kind for result in answer.results] == ["fulltext"]


async def test_a_full_text_search_that_takes_too_long_is_left_out(memories: Memories) -> None:
    await memories.space(config())
    await memories.add("found by meaning")
    async with await _with_slow_words(memories.world) as store:
        answer = await Recall(store, memories.world.connector, memories.world.keys).query(
            "default", "default", "found by meaning"
        )
    assert answer.diagnostics.channels["fulltext"].status == "timeout"
    assert [result.match_kind for result in answer.results] == ["semantic"]


async def test_when_no_channel_answers_the_query_fails_instead_of_finding_nothing(memories: Memories) -> None:
    await memories.add("found by words only")
    async with await _with_slow_words(memories.world) as store:
        recall = Recall(store, memories.world.connector, memories.world.keys)
        with pytest.raises(StoreUnavailable, match="no search channel"):
            await recall.query("default", "default", "found by words only")
        # The connections are usable after it.
        async with store.connection() as conn:
            assert await conn.fetchval("select 1") == 1


@pytest.mark.parametrize("query", ["", " \t", "\x00", "-----"])
async def test_a_query_that_asks_nothing_is_refused(memories: Memories, query: str) -> None:
    with pytest.raises(InvalidInput):
        await memories.query(query)


@pytest.mark.parametrize("k", [0, -1, 201])
async def test_k_has_its_bounds(memories: Memories, k: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 200"):
        await memories.query("x", k=k)


async def test_as_many_as_asked_for_are_returned(memories: Memories) -> None:
    await memories.space(config())
    await asyncio.gather(*(memories.add(f"thing number {number}") for number in range(60)))
    assert len((await memories.query("thing", k=7)).results) == 7
    assert len((await memories.query("thing", k=200)).results) == 60


async def test_a_damaged_row_is_left_out_of_an_answer(memories: Memories, caplog: pytest.LogCaptureFixture) -> None:
    await memories.add("thing one")
    damaged = await memories.add("thing two")
    await memories.world.fetch("update memory_entries set input = '\\x01' where canonical_id = $1", damaged.id)
    assert [result.text for result in (await memories.query("thing")).results] == ["thing one"]
    assert str(damaged.id) in caplog.text


async def _with_slow_words(world: World) -> Any:
    """A store whose full-text queries take five seconds, and whose vectors are read as ever."""
    await world.fetch("create schema slow")
    await world.fetch(
        "create function slow.websearch_to_tsquery(regconfig, text) returns tsquery language plpgsql stable as $$"
        " begin perform pg_sleep(5); return pg_catalog.websearch_to_tsquery($1, $2); end $$"
    )
    await world.fetch("alter function memory_find_by_words set search_path = slow, pg_catalog, public")
    return await open_store(world.dsn, application="test")


async def test_waiting_for_a_connection_is_no_part_of_a_channels_time(world: World, memories: Memories) -> None:
    await memories.space(config())
    await memories.add("busy pools are no reason to miss a memory")
    async with await open_store(world.dsn, application="test", max_size=1) as store:
        recall = Recall(store, world.connector, world.keys)
        await recall.query("default", "default", "pools")
        async with store.connection():
            querying = asyncio.create_task(recall.query("default", "default", "pools"))
            await asyncio.sleep(0)
            busy = asyncio.create_task(_sleep_in(store, 1.2 * CHANNEL_SECONDS))
            await asyncio.sleep(0)
        answer = await querying
        await busy
    assert {channel.status for channel in answer.diagnostics.channels.values()} == {"ok"}


async def test_waiting_for_a_connection_is_no_part_of_the_embedders_time(world: World, memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(by_vendor(vendor))
        await memories.add("busy pools are no reason to miss a memory")
        async with await open_store(world.dsn, application="test", max_size=2) as store:
            recall = Recall(store, world.connector, world.keys)
            async with store.connection():
                querying = asyncio.create_task(recall.query("default", "default", "pools"))
                await asyncio.sleep(0)
                busy = asyncio.create_task(_sleep_in(store, 1.2 * EMBED_SECONDS))
                answer = await querying
                await busy
        assert {channel.status for channel in answer.diagnostics.channels.values()} == {"ok"}


async def _sleep_in(store: Store, seconds: float) -> None:
    async with store.connection() as conn:
        await conn.execute("select pg_sleep($1)", seconds)
