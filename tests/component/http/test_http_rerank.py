"""Re-ranking over HTTP: what a query may ask for, who may name whose API, and what the answer says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.http.auth.tokens import token_auth
from vendor.script import Fault
from vendor.stub import StubVendor

QUERY = "/memory/query"
TEXTS = ["apple banana cherry", "apple stands here in the end"]


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        stub.relevant = {"in the end": 0.9}
        yield stub


def provider(vendor: StubVendor, **rerank: Any) -> dict[str, Any]:
    """The stub for both: vectors by OpenAI's form, and Cohere's rerank API."""
    api = {"form": "Cohere", "model": "rerank-v3.5", "timeout": "10s", **rerank}
    embedding = {"dimensions": 64, "rerank": api}
    return {"type": "openai_compatible", "model": "m", "baseURL": vendor.base_url, "embedding": embedding}


@pytest.fixture
async def stocked(world: World, vendor: StubVendor) -> AsyncIterator[World]:
    """A world with a Provider, its operator and two memories."""
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", provider(vendor)), "Ready")
        async with serve(world) as api:
            for text in TEXTS:
                assert (await api.post("/memory/add", {"text": text})).status_code == 201
        vendor.forget()
        yield world


async def test_an_answer_says_who_re_ranked_it_and_how_each_score_came_about(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    answer = (await api.post(QUERY, {"query": "apple banana cherry", "explain": True})).json()
    assert [(result["text"], result["score"]) for result in answer["results"]] == [(TEXTS[1], 0.9), (TEXTS[0], 0.01)]
    rerank = answer["diagnostics"]["rerank"]
    assert rerank.pop("ms") > 0
    assert rerank == {
        "provider": "default/memory",
        "model": "rerank-v3.5",
        "status": "ok",
        "reason": None,
        "texts": 2,
        "least_relevance": 0.01,
    }
    for result in answer["results"]:
        about = result["diagnostics"]
        parts = sum(match["contribution"] for match in about["channels"].values()) + about["agreement"]
        assert about["fused_score"] == pytest.approx(parts)
        assert about["rerank"]["relevance"] == result["score"]
    assert answer["results"][0]["diagnostics"]["rerank"] == {
        "rank": 1,
        "score": 0.9,
        "relevance": 0.9,
        "rank_before": 2,
    }
    assert answer["diagnostics"]["explanation"]["channels"]
    assert vendor.calls[-1].target == "/v2/rerank"


async def test_a_query_turns_it_off_or_takes_fewer(stocked: World, api: Api, vendor: StubVendor) -> None:
    off = (await api.post(QUERY, {"query": "apple banana cherry", "rerank": {"top": 0}})).json()
    assert [result["text"] for result in off["results"]] == TEXTS
    assert off["diagnostics"]["rerank"] is None
    assert {result["diagnostics"]["rerank"] for result in off["results"]} == {None}
    fewer = {"provider": "default/memory", "top": 1}
    answer = (await api.post(QUERY, {"query": "apple banana cherry", "rerank": fewer})).json()
    assert (answer["results"][0]["text"], answer["diagnostics"]["rerank"]["texts"]) == (TEXTS[0], 1)


async def test_a_vendor_that_is_down_leaves_a_whole_answer_and_a_word_about_it(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    vendor.fault = Fault(status=503, path="rerank")
    answer = (await api.post(QUERY, {"query": "apple banana cherry"})).json()
    assert [result["text"] for result in answer["results"]] == TEXTS
    rerank = answer["diagnostics"]["rerank"]
    assert (rerank["status"], rerank["reason"]) == ("unavailable", "embedder_unreachable")
    assert answer["diagnostics"]["semantic_status"] == "ok"


@pytest.mark.parametrize(
    "rerank",
    [
        {"top": -1},
        {"top": 101},
        {"top": "5"},
        {"top": 5.0},
        {"top": True},
        {"provider": "memory"},
        {"provider": "a/b/c"},
        {"provider": ""},
        {"provider": 5},
        {"model": "m"},
        True,
        "default/memory",
        [],
    ],
)
async def test_what_cannot_be_is_refused_by_its_field(rerank: Any, api: Api) -> None:
    problem = refused(await api.post(QUERY, {"query": "apple", "rerank": rerank}), 400, "invalid_request")
    assert "rerank" in problem["detail"]


async def test_a_provider_without_a_rerank_api_is_a_conflict(stocked: World, api: Api, vendor: StubVendor) -> None:
    for named in ("default/other", "elsewhere/memory"):
        answer = await api.post(QUERY, {"query": "apple", "rerank": {"provider": named}})
        assert "spec.embedding.rerank" in refused(answer, 409, "no_reranker")["hint"]
    assert vendor.count == 0


async def test_whoever_may_not_look_at_a_provider_may_not_have_texts_sent_to_it(
    stocked: World, vendor: StubVendor, tmp_path: Path
) -> None:
    rights = {"reader": ["memories:get"], "looker": ["memories:get", "read"]}
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": "local", "rights": given}
        for name, given in rights.items()
    ]
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps(entries))
    named = {"query": "apple", "rerank": {"provider": "default/memory"}}
    async with serve(stocked, token_auth(tokens)) as api:
        reader, looker = ({"authorization": f"Bearer {name}"} for name in rights)
        refused(await api.post(QUERY, named, headers=reader), 403, "forbidden")
        assert vendor.count == 0
        assert (await api.post(QUERY, named, headers=looker)).status_code == 200
        own = await api.post(QUERY, {"query": "apple"}, headers=reader)
        assert own.status_code == 200, "the Provider that queries read re-ranks for everybody"


async def test_what_re_ranking_used_is_in_the_usage(stocked: World, api: Api) -> None:
    await api.post(QUERY, {"query": "apple banana cherry"})
    used = (await api.get("/v1/usage?group_by=purpose")).json()
    [rerank] = [row for row in used["groups"] if row["group"] == "rerank"]
    assert (rerank["calls"], rerank["inputs"]) == (1, 2)


async def test_an_edit_of_it_holds_nothing_makes_no_space_and_embeds_nothing(
    stocked: World, api: Api, vendor: StubVendor
) -> None:
    before = await stocked.fetch("select id, config, space_identity, state from memory_embedding_spaces")
    jobs = await stocked.value("select count(*) from memory_reembed_jobs")
    ref = stocked.cluster.apply("memory", provider(vendor, form="Jina", model="another", top=1))

    async def used() -> bool:
        answer = (await api.post(QUERY, {"query": "apple banana cherry"})).json()
        return bool((answer["diagnostics"]["rerank"] or {}).get("model") == "another")

    await until(used, "queries use the Provider's new rerank API")
    spec = provider(vendor)
    del spec["embedding"]["rerank"]
    stocked.cluster.apply("memory", spec)
    await until(lambda: stocked.value("select rerank is null from memory_providers"), "the rerank API is taken away")
    await stocked.until_phase(ref, "Ready")
    assert await stocked.fetch("select id, config, space_identity, state from memory_embedding_spaces") == before
    assert await stocked.value("select count(*) from memory_reembed_jobs") == jobs
    assert await stocked.value("select count(*) from memory_pending_changes") == 0
    assert (await api.post(QUERY, {"query": "apple"})).json()["diagnostics"]["rerank"] is None
    embedded = [text for call in vendor.calls if call.form == "openai" for text in call.inputs]
    assert TEXTS[1] not in embedded, "no memory was embedded again"
