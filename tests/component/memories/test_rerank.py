"""Re-ranking: another order where the reranker answers in time, and the answer without it where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.memories import Memories, config
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.memories.answer import RecallAnswer, RerankDiagnostics
from memory_operator.engine.memories.recall import QueryOptions
from memory_operator.engine.memories.rerank import RerankOptions, reordered
from memory_operator.errors import Conflict
from vendor.script import Fault
from vendor.stub import StubVendor

QUESTION = "apple banana cherry dates"
TEXTS = [
    "apple banana cherry dates",
    "apple banana cherry and more",
    "apple banana with other things",
    "apple stands here in the end",
]
"""As the channels rank them."""


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def spec(vendor: StubVendor, **rerank: Any) -> dict[str, Any]:
    """A Provider whose vectors are made here, and whose rerank API is the stub's."""
    api = {"form": "Jina", "model": "r", "baseURL": vendor.root_url, "timeout": "10s", **rerank}
    return {"type": "mock", "model": "m", "embedding": {"dimensions": 64, "rerank": api}}


@pytest.fixture
async def reranked(world: World, memories: Memories, vendor: StubVendor) -> AsyncIterator[Memories]:
    """Four memories in the space of a Provider with a rerank API."""
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", spec(vendor)), "Ready")
        for text in TEXTS:
            await memories.add(text)
        yield memories


def texts(answer: RecallAnswer) -> list[str]:
    return [result.text for result in answer.results]


def done(answer: RecallAnswer) -> RerankDiagnostics:
    assert answer.diagnostics.rerank is not None
    return answer.diagnostics.rerank


def without(answer: RecallAnswer) -> list[tuple[Any, ...]]:
    """What an answer says, but for how old its memories are by now."""
    return [(result.id, result.score, result.also, result.diagnostics.channels) for result in answer.results]


NOT = QueryOptions(rerank=RerankOptions(top=0))


async def test_each_query_of_the_space_is_re_ranked_and_its_score_is_the_rerankers(
    reranked: Memories, vendor: StubVendor
) -> None:
    assert texts(await reranked.query(QUESTION, options=NOT)) == TEXTS
    assert vendor.count == 0
    vendor.relevant = {"in the end": 0.9, "and more": 0.5, "other things": 0.25}
    answer = await reranked.query(QUESTION)
    assert [(result.text, result.score) for result in answer.results] == [
        (TEXTS[3], 0.9),
        (TEXTS[1], 0.5),
        (TEXTS[2], 0.25),
        (TEXTS[0], 0.01),
    ]
    said = done(answer)
    assert (said.provider, said.model, said.status, said.reason, said.texts) == ("default/memory", "r", "ok", None, 4)
    [call] = vendor.calls
    assert (call.request["query"], call.inputs) == (QUESTION, TEXTS)


async def test_the_arithmetic_of_a_re_ranked_score_adds_up(reranked: Memories, vendor: StubVendor) -> None:
    vendor.relevant = {"in the end": 0.9, "and more": 0.5}
    answer = await reranked.query(QUESTION, options=QueryOptions(rerank=RerankOptions(top=2)))
    assert texts(answer) == [TEXTS[1], TEXTS[0], TEXTS[2], TEXTS[3]], "the third and the fourth were not sent"
    least = done(answer).least_relevance
    assert least == 0.01
    before = {result.id: result.score for result in (await reranked.query(QUESTION, options=NOT)).results}
    for place, result in enumerate(answer.results):
        about = result.diagnostics
        fused = sum(match.contribution for match in about.channels.values()) + about.agreement
        assert about.fused_score == pytest.approx(fused) == pytest.approx(before[result.id])
        if place < 2:
            assert about.rerank is not None
            assert (about.rerank.rank, about.rerank.relevance) == (place + 1, result.score)
            assert about.rerank.rank_before == TEXTS.index(result.text) + 1
        else:
            assert about.rerank is None
            assert result.score == pytest.approx(fused * least)
    scores = [result.score for result in answer.results]
    assert scores == sorted(scores, reverse=True)


async def test_scores_that_are_no_shares_are_read_as_log_odds_in_the_same_order(
    reranked: Memories, vendor: StubVendor
) -> None:
    vendor.relevant = {"in the end": 800.0, "and more": 0.0, "other things": -3.0, "dates": 799.0}
    answer = await reranked.query(QUESTION)
    assert texts(answer) == [TEXTS[3], TEXTS[0], TEXTS[1], TEXTS[2]]
    assert [result.score for result in answer.results] == pytest.approx([1, 1, 0.5, 0.0474], abs=1e-4)
    assert [result.diagnostics.rerank.score for result in answer.results if result.diagnostics.rerank] == [
        800.0,
        799.0,
        0.0,
        -3.0,
    ]


async def test_equal_scores_leave_the_order_as_it_was(reranked: Memories, vendor: StubVendor) -> None:
    vendor.relevant = {"": 0.5}
    assert texts(await reranked.query(QUESTION)) == TEXTS


async def test_the_first_are_chosen_among_more_than_are_shown(reranked: Memories, vendor: StubVendor) -> None:
    vendor.relevant = {"in the end": 0.9}
    assert texts(await reranked.query(QUESTION, k=1)) == [TEXTS[3]]


async def test_the_least_score_counts_for_the_score_that_is_shown(reranked: Memories, vendor: StubVendor) -> None:
    vendor.relevant = {"in the end": 0.9, "and more": 0.5}
    answer = await reranked.query(QUESTION, options=QueryOptions(min_score=0.5))
    assert texts(answer) == [TEXTS[3], TEXTS[1]]
    vendor.fault = Fault(status=500)
    fallen_back = await reranked.query(QUESTION, options=QueryOptions(min_score=0.5))
    plain = await reranked.query(QUESTION, options=QueryOptions(min_score=0.5, rerank=RerankOptions(top=0)))
    assert without(fallen_back) == without(plain)


async def test_equal_texts_are_folded_before_and_sent_once(reranked: Memories, vendor: StubVendor) -> None:
    again = await reranked.add("Apple banana, with other things.")
    vendor.relevant = {"ther things": 0.9}
    answer = await reranked.query(QUESTION)
    assert len(vendor.calls[0].inputs) == 4
    [folded] = [result for result in answer.results if result.also]
    assert again.id in (folded.id, *folded.also)
    vendor.forget()
    await reranked.query(QUESTION, options=QueryOptions(fold=False))
    assert len(vendor.calls[0].inputs) == 5


async def test_of_a_long_memory_the_chunk_that_was_found_is_sent_and_no_neighbours(
    reranked: Memories, vendor: StubVendor
) -> None:
    paragraphs = [f"Part {number} has the word {word}. " + "Filling. " * 150 for number, word in enumerate("xyz")]
    await reranked.add("\n\n".join([*paragraphs, "needle " * 3]))
    for granularity in ("memory", "chunk"):
        vendor.forget()
        options = QueryOptions(granularity=granularity, context=1)  # type: ignore[arg-type]
        answer = await reranked.query("needle", options=options)
        sent = vendor.calls[0].inputs
        assert "needle" in sent[0]
        assert "word x" not in sent[0]
        assert sorted(sent) == sorted(texts(answer))
        assert answer.results[0].before


HOSTILE = {
    "refused": Fault(status=401),
    "limited": Fault(status=429),
    "down": Fault(status=503),
    "cut": Fault(reset="midway"),
    "too many": Fault(reply='{"results": [' + ",".join(['{"index": 0, "relevance_score": 1}'] * 5) + "]}"),
    "too few": Fault(reply='{"results": [{"index": 0, "relevance_score": 0.9}]}'),
    "nothing": Fault(reply="{}"),
    "giant": Fault(huge_mib=8),
}


@pytest.mark.parametrize("fault", HOSTILE.values(), ids=HOSTILE)
async def test_a_reranker_that_fails_leaves_the_answer_that_there_is_without_it(
    fault: Fault, reranked: Memories, vendor: StubVendor
) -> None:
    plain = await reranked.query(QUESTION, k=2, options=NOT)
    vendor.fault = fault
    answer = await reranked.query(QUESTION, k=2)
    assert without(answer) == without(plain)
    said = done(answer)
    assert (said.status, said.texts, said.least_relevance) == ("unavailable", 4, None)
    assert said.reason in ("credential_refused", "rate_limited", "embedder_unreachable", "bad_reply")
    assert answer.diagnostics.semantic_status == "ok", "the channels are not to blame"


async def test_a_reranker_that_does_not_answer_in_time_leaves_the_answer_that_there_is_without_it(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    plain = await reranked.query(QUESTION, options=NOT)
    world.cluster.apply("memory", spec(vendor, timeout="200ms"))
    await until(lambda: declared(world, "timeout_seconds", "0.2"), "the Provider's new time limit is known")
    vendor.fault = Fault(hold=True)
    answer = await reranked.query(QUESTION)
    assert without(answer) == without(plain)
    assert (done(answer).status, done(answer).reason) == ("unavailable", "embedder_unreachable")
    vendor.fault = None


async def declared(world: World, name: str, value: str) -> bool:
    return bool(await world.value("select rerank->>$1 = $2 from memory_providers where name = 'memory'", name, value))


async def test_after_failures_in_a_row_the_reranker_is_left_alone_for_a_moment(
    reranked: Memories, vendor: StubVendor
) -> None:
    vendor.fault = Fault(status=500)
    reasons = [done(await reranked.query(QUESTION)).reason for _ in range(12)]
    assert reasons[:5] == ["embedder_unreachable"] * 5
    assert "circuit_open" in reasons
    assert vendor.count < 12
    vendor.fault = None

    async def answered() -> bool:
        return done(await reranked.query(QUESTION)).status == "ok"

    await until(answered, "the reranker is asked again")


async def test_a_call_is_in_the_ledger_before_it_leaves_with_tenant_tokens_and_cost(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    world.cluster.apply("memory", spec(vendor, inputCostPer1K="0.5"))
    await until(lambda: declared(world, "input_cost_per_1k", "0.5"), "the Provider's new price is known")
    vendor.fault = Fault(hold=True)
    query = asyncio.create_task(reranked.query(QUESTION), name="a query")
    await until(lambda: vendor.count == 1, "the call is under way")
    [under_way] = await ledger(world)
    assert under_way[:5] == ("sent", "default", "default/memory", "r", 4)
    assert under_way[5] > 0
    vendor.fault = None
    await query
    tokens = sum(len(text) // 4 + 1 for text in TEXTS)
    [ended] = await ledger(world)
    assert (ended[0], ended[6], float(ended[7])) == ("answered", tokens, pytest.approx(tokens * 0.0005))
    assert world.store.metrics.registry.get_sample_value(
        "memory_embedder_calls_total", {"purpose": "rerank", "ending": "answered"}
    )


async def ledger(world: World) -> list[tuple[Any, ...]]:
    rows = await world.fetch(
        "select l.state, t.name, provider_namespace || '/' || provider_name, model, inputs, estimated_tokens, tokens,"
        " cost from memory_usage_ledger l join memory_tenants t on t.id = l.tenant_id where purpose = 'rerank'"
    )
    return [tuple(row) for row in rows]


async def test_a_query_may_name_another_providers_api_and_how_much_it_gets(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    api = {"model": "r2", "when": "OnRequest"}
    other = world.cluster.apply("other", {**spec(vendor, **api), "model": "n"})
    await world.until_phase(other, "Ready")
    vendor.relevant = {"and more": 0.9}
    answer = await reranked.query(QUESTION, options=QueryOptions(rerank=RerankOptions(other, 2)))
    assert texts(answer)[:2] == [TEXTS[1], TEXTS[0]]
    assert (done(answer).provider, done(answer).model, done(answer).texts) == ("default/other", "r2", 2)
    assert vendor.calls[-1].model == "r2"


async def test_on_request_is_re_ranked_where_a_query_asks_for_it_alone(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    world.cluster.apply("memory", spec(vendor, when="OnRequest"))
    await until(lambda: declared(world, "always", "false"), "the Provider's edit is known")
    answer = await reranked.query(QUESTION)
    assert (answer.diagnostics.rerank, vendor.count) == (None, 0)
    assert done(await reranked.query(QUESTION, options=QueryOptions(rerank=RerankOptions()))).status == "ok"


async def test_asking_for_a_reranker_that_nobody_has_is_a_conflict_with_a_hint(
    world: World, memories: Memories
) -> None:
    with pytest.raises(Conflict, match="no space is active") as nobody:
        await memories.query(QUESTION, options=QueryOptions(rerank=RerankOptions()))
    assert nobody.value.code == "no_reranker"
    await memories.space(config())
    for named in (None, ProviderRef("default", "unheard")):
        with pytest.raises(Conflict, match="has no rerank API"):
            await memories.query(QUESTION, options=QueryOptions(rerank=RerankOptions(named)))
    assert (await memories.query(QUESTION)).diagnostics.rerank is None


async def test_a_provider_that_is_gone_re_ranks_nothing(reranked: Memories, vendor: StubVendor, world: World) -> None:
    world.cluster.delete(ProviderRef("default", "memory"))
    await until(
        lambda: world.value("select not exists (select from memory_providers where absent_since is null)"),
        "the Provider is known to be gone",
    )
    answer = await reranked.query(QUESTION)
    assert (answer.diagnostics.rerank, vendor.count) == (None, 0)
    gone = RerankOptions(ProviderRef("default", "memory"))
    with pytest.raises(Conflict):
        await reranked.query(QUESTION, options=QueryOptions(rerank=gone))


async def test_a_question_that_finds_nothing_sends_nothing(reranked: Memories, vendor: StubVendor) -> None:
    answer = await reranked.query("zzz", options=QueryOptions(channels=("fulltext",)))
    assert (answer.results, vendor.count, done(answer).status) == ((), 0, "ok")


async def test_texts_of_other_tenants_are_not_sent(reranked: Memories, vendor: StubVendor) -> None:
    await reranked.add("apple banana cherry dates of somebody else", tenant="other")
    await reranked.query(QUESTION)
    assert sorted(vendor.calls[0].inputs) == sorted(TEXTS)


async def test_the_key_for_the_rerank_api_comes_from_its_own_secret_and_a_new_one_is_read_after_a_refusal(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    world.cluster.secrets[("default", "rerank")] = {"JINA_API_KEY": "first"}
    world.cluster.apply("memory", spec(vendor, secretRef={"name": "rerank"}))
    await until(lambda: has_credential(world), "the Provider's Secret is known")
    vendor.api_key = "first"
    assert done(await reranked.query(QUESTION)).status == "ok"
    vendor.api_key = "second"
    world.cluster.secrets[("default", "rerank")] = {"JINA_API_KEY": "second"}
    assert done(await reranked.query(QUESTION)).reason == "credential_refused"
    assert done(await reranked.query(QUESTION)).status == "ok"
    del world.cluster.secrets[("default", "rerank")]


async def has_credential(world: World) -> bool:
    return bool(await world.value("select rerank#>>'{credential,secret,name}' = 'rerank' from memory_providers"))


async def test_a_secret_that_is_not_there_leaves_the_answer_that_there_is_without_it(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    world.cluster.apply("memory", spec(vendor, secretRef={"name": "rerank"}))
    await until(lambda: has_credential(world), "the Provider's Secret is known")
    answer = await reranked.query(QUESTION)
    assert (done(answer).reason, texts(answer), vendor.count) == ("secret_missing", TEXTS, 0)


def test_nothing_is_put_in_order_without_an_error() -> None:
    assert reordered([], []) == []
