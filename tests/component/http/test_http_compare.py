"""Two spaces side by side over HTTP: a worse model is told as worse, and what one lacks is looked for in neither."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.api import Api, refused
from fixtures.comparisons import COMPARE, compared, texts
from fixtures.memories import Memories, config
from fixtures.waiting import until
from memory_operator.measuring.side_by_side import worse_than
from memory_operator.store.spaces.spaces import Space
from vendor.stub import StubVendor

MEMORIES = 80


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=128) as stub:
        yield stub


def model(vendor: StubVendor, name: str) -> Any:
    return config(128, type="openai_compatible", base_url=vendor.base_url, model=name, input_cost_per_1k="0.02")


@pytest.fixture
async def spaces(memories: Memories, vendor: StubVendor) -> tuple[Space, Space]:
    """The active space of a good model, and one beside it whose vectors are half wrong, both full."""
    good = await memories.space(model(vendor, "words"))
    bad = await memories.space(model(vendor, "words-scrambled"), "second", active=False)
    async with memories.world.worker():
        await asyncio.gather(*(memories.add(text) for text in texts(MEMORIES)))
        await until(lambda: _full(memories, bad), "both spaces are full")
    vendor.forget()
    return good, bad


async def _full(memories: Memories, space: Space) -> bool:
    return bool(await memories.world.value(f"select count(*) = {MEMORIES} from memory_vectors_{space.id}"))


async def test_a_worse_model_is_told_as_worse_with_intervals(spaces: tuple[Space, Space], api: Api) -> None:
    good, bad = spaces
    plan, summary = await compared(api, good.embedding_version, bad.embedding_version, 60)
    assert plan["in_common"] == {"both": MEMORIES, "only_first": 0, "only_second": 0, "projects": 1}
    assert len(plan["drawn"]) == 60
    assert summary.judged is not None
    assert summary.judged.whole is None
    for way in ("semantic", "fused"):
        figures = summary.judged.ways[way]  # type: ignore[index]
        assert figures.ndcg_difference.verdict == "worse", way
        assert figures.ndcg_difference.difference.high < 0
    assert worse_than(summary.judged, 0.01)
    _, other = await compared(api, bad.embedding_version, good.embedding_version, 60)
    assert other.judged is not None
    assert other.judged.ways["fused"].ndcg_difference.verdict == "better"
    assert worse_than(other.judged, 0.01) == []


async def test_a_comparison_calls_both_vendors_with_a_purpose_of_its_own_and_writes_nothing_else(
    spaces: tuple[Space, Space], api: Api, memories: Memories, vendor: StubVendor
) -> None:
    good, bad = spaces
    before = await memories.counted()
    await compared(api, good.embedding_version, bad.embedding_version, 10)
    rows = await memories.world.fetch(
        "select purpose, count(*) as calls, sum(inputs) as inputs from memory_usage_ledger where space_id is null"
        " group by purpose"
    )
    # The first question of a request is embedded by itself, as those of queries are.
    assert [tuple(row) for row in rows] == [("compare", 4, 20)]
    assert sum(len(call.inputs) for call in vendor.calls) == 20
    assert await memories.counted() == before


async def test_what_one_space_lacks_is_looked_for_in_neither(
    spaces: tuple[Space, Space], api: Api, memories: Memories
) -> None:
    good, bad = spaces
    lost = await memories.world.fetch(
        f"delete from memory_vectors_{bad.id} v using memory_chunks c, memory_entries e where c.id = v.chunk_id"
        " and e.id = c.entry_id and v.chunk_id % 2 = 0 returning e.canonical_id"
    )
    gone = {str(row["canonical_id"]) for row in lost}
    plan, summary = await compared(api, good.embedding_version, bad.embedding_version, 60)
    assert plan["in_common"]["both"] == MEMORIES - len(gone)
    assert plan["in_common"]["only_first"] == len(gone)
    assert not gone & {memory for one in plan["drawn"] for memory in one["judged"]}
    assert summary.judged is not None
    assert summary.judged.whole is not None
    assert summary.judged.predicted is not None
    question = {"query": texts(1)[0], "judged": sorted(gone)}
    body = {"first": good.embedding_version, "second": bad.embedding_version, "project": "default"}
    [answer] = (await api.post(COMPARE, {**body, "questions": [question]})).json()["answers"]
    assert set(answer["missing"]) == gone
    for side in (answer["first"], answer["second"]):
        assert side["fused"]
        assert side["semantic"]
        assert not gone & {*side["fused"], *side["semantic"]}
    assert gone & set(answer["first"]["whole"])


async def test_an_index_is_held_against_an_exact_scan(
    spaces: tuple[Space, Space], api: Api, memories: Memories
) -> None:
    good, bad = spaces
    await memories.world.fetch(
        "update memory_embedding_spaces set index_in_use = $2 where id = $1",
        good.id,
        {"kind": "hnsw", "wanted": {"kind": "hnsw"}, "vectors": MEMORIES, "reason": "a test"},
    )
    body = {"first": good.embedding_version, "second": bad.embedding_version, "project": "default"}
    [answer] = (await api.post(COMPARE, {**body, "questions": [{"query": texts(1)[0]}]})).json()["answers"]
    assert answer["first"]["index_recall"] == 1.0
    assert answer["second"]["index_recall"] is None


async def test_what_cannot_be_compared_is_said(spaces: tuple[Space, Space], api: Api, vendor: StubVendor) -> None:
    good, bad = (space.embedding_version for space in spaces)
    refused(await api.post(COMPARE, {"first": good, "second": good}), 409, "same_space")
    refused(await api.post(COMPARE, {"first": good, "second": "rehearsal-7"}), 404)
    refused(await api.post(COMPARE, {"first": good, "second": bad, "project": "none"}), 404)
    refused(await api.post(COMPARE, {"first": good, "second": bad, "questions": [{"query": "x"}]}), 400)
    vendor.api_key = "another"
    body = {"first": good, "second": bad, "project": "default", "questions": [{"query": "x"}]}
    refused(await api.post(COMPARE, body), 409, "embedder_unavailable")
    vendor.stop()
    refused(await api.post(COMPARE, body), 503)
