"""What a Provider is told of its rerank API, and what limits and budget say of calls to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.memories import Memories
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.memories.answer import RecallAnswer
from vendor.script import Fault
from vendor.stub import StubVendor

MEMORY = ProviderRef("default", "memory")
QUESTION = "apple banana"
TEXTS = ["apple and banana", "banana and cherry", "cherry and apple", "no fruit"]


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def reason(answer: RecallAnswer) -> str | None:
    assert answer.diagnostics.rerank is not None
    return answer.diagnostics.rerank.reason


def elsewhere(vendor: StubVendor, **rerank: Any) -> dict[str, Any]:
    """A Provider whose vectors are made here, and whose rerank API is another server."""
    api = {"form": "Jina", "model": "r", "baseURL": vendor.root_url, "timeout": "10s", **rerank}
    return {"type": "mock", "model": "m", "embedding": {"dimensions": 64, "rerank": api}}


async def stored(world: World, memories: Memories, spec: dict[str, Any]) -> Memories:
    """A few memories in the space of such a Provider."""
    await world.until_phase(world.cluster.apply("memory", spec), "Ready")
    for text in TEXTS:
        await memories.add(text)
    return memories


@pytest.fixture
async def reranked(world: World, memories: Memories, vendor: StubVendor) -> AsyncIterator[Memories]:
    async with world.operator(), world.worker():
        yield await stored(world, memories, elsewhere(vendor))


def said_of_reranking(world: World) -> tuple[str, str]:
    condition = world.cluster.condition(MEMORY, "Reranking")
    return condition.status, condition.reason


async def told(world: World, status: str, reason: str) -> None:
    await until(lambda: said_of_reranking(world) == (status, reason), f"Reranking is {status}, {reason}")


async def test_a_refused_key_is_a_condition_of_the_provider_until_a_call_is_answered(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    assert not world.cluster.condition(MEMORY, "Reranking"), "nothing is known before a call"
    await reranked.query(QUESTION)
    await told(world, "True", "Answered")
    vendor.fault = Fault(status=401)
    await reranked.query(QUESTION)
    await told(world, "False", "CredentialRefused")
    message = world.cluster.condition(MEMORY, "Reranking").message
    assert ("401" in message, "secretRef of spec.embedding.rerank" in message) == (True, True), message
    assert world.cluster.condition(MEMORY, "Ready").status == "True", "answers are whole without it"
    warned = [(event.type, event.reason) for ref, event in world.cluster.events if ref == MEMORY]
    assert ("Warning", "CredentialRefused") in warned
    vendor.fault = None
    await reranked.query(QUESTION)
    await told(world, "True", "Answered")
    world.cluster.apply("memory", elsewhere(vendor, model="other"))
    await told(world, "", "")


async def test_a_rerank_api_that_is_down_is_told_once_calls_rest_and_one_slow_reply_is_not(
    reranked: Memories, vendor: StubVendor, world: World
) -> None:
    vendor.fault = Fault(status=500)
    await reranked.query(QUESTION)
    assert not await world.value("select rerank_outcome from memory_providers")
    for _ in range(5):
        await reranked.query(QUESTION)
    await told(world, "False", "RerankerUnreachable")


def own(vendor: StubVendor, **embedding: Any) -> dict[str, Any]:
    """A Provider whose own server re-ranks, too."""
    api = {"model": "r", "timeout": "10s"}
    return {
        "type": "openai_compatible",
        "model": "m",
        "baseURL": vendor.base_url,
        "embedding": {"dimensions": 64, "rerank": api, **embedding},
    }


@pytest.fixture
async def by_its_own(world: World, memories: Memories, vendor: StubVendor) -> AsyncIterator[Memories]:
    async with world.operator(), world.worker():
        yield await stored(world, memories, own(vendor))


async def ledger(world: World) -> list[tuple[int, int]]:
    """Tokens of each call to a rerank API: as estimated, and as the vendor counted them."""
    return [
        (row["estimated_tokens"], row["tokens"])
        for row in await world.fetch(
            "select estimated_tokens, tokens from memory_usage_ledger where purpose = 'rerank' order by id"
        )
    ]


async def test_the_providers_limits_count_calls_to_its_rerank_api(
    by_its_own: Memories, vendor: StubVendor, world: World
) -> None:
    world.cluster.apply("memory", own(vendor, limits={"requestsPerMinute": 1, "concurrency": 1}))
    await until(lambda: limited_to(world, "1"), "the Provider's limits are known")
    assert reason(await by_its_own.query(QUESTION)) is None
    limited = await by_its_own.query(QUESTION)
    assert (reason(limited), len(limited.results)) == ("rate_limited", len(TEXTS))
    assert len(await ledger(world)) == 1, "what may not leave is in no ledger"


async def test_the_providers_budget_of_the_day_counts_calls_to_its_rerank_api(
    by_its_own: Memories, vendor: StubVendor, world: World
) -> None:
    await by_its_own.query(QUESTION)
    [(estimated, used)] = await ledger(world)
    bound = str(estimated)
    world.cluster.apply("memory", own(vendor, budget={"tokensPerDay": int(bound), "tokensPerJob": 1}))
    await until(lambda: bounded(world, bound), "the Provider's budget is known")
    assert reason(await by_its_own.query(QUESTION)) is None
    assert await world.value("select spent_tokens from memory_usage_daily") == used
    assert reason(await by_its_own.query(QUESTION)) == "budget_reached"
    await told(world, "False", "BudgetReached")
    assert f"{used} of {bound} tokens today" in world.cluster.condition(MEMORY, "Reranking").message
    world.cluster.apply("memory", own(vendor, budget={"tokensPerDay": 10 * int(bound)}))
    await until(lambda: bounded(world, str(10 * int(bound))), "the Provider's larger budget is known")
    assert reason(await by_its_own.query(QUESTION)) is None


async def limited_to(world: World, requests: str) -> bool:
    return bool(
        await world.value("select rerank#>>'{limits,requests_per_minute}' = $1 from memory_providers", requests)
    )


async def bounded(world: World, bound: str) -> bool:
    return bool(await world.value("select rerank#>>'{budget,tokens_per_day}' = $1 from memory_providers", bound))
