"""Memories over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from fixtures.api import Api, refused
from fixtures.engine import World

MOCK = {"type": "mock", "pricing": {"inputCostPer1K": "0.00002"}, "embedding": {"dimensions": 64}}


async def test_a_memory_comes_back_as_it_was_given(api: Api) -> None:
    given = {
        "text": "The gate opens once. 😀",
        "project": "ops",
        "summary": "About the gate",
        "type": "decision",
        "tags": ["gate", "consent"],
        "source": "review",
        "importance": 1,
        "confidence": 0.25,
        "metadata": {"ticket": 7, "big": 10**60, "nested": [[{"a": None}], True, 0.5], "": "empty name"},
    }
    added = await api.post("/memory/add", given)
    assert added.status_code == 201, added.text
    shown = (await api.get(f"/memory/{added.json()['id']}")).json()
    assert {name: shown[name] for name in given} == given
    assert (shown["version_no"], shown["current"], shown["tombstone"], shown["created_by"]) == (1, True, False, "local")
    [found] = (await api.post("/memory/query", {"query": "gate", "project": "ops"})).json()["results"]
    assert found["metadata"] == given["metadata"]
    assert found["text"] == given["text"]


async def test_metadata_as_deep_as_it_may_be_comes_back(api: Api) -> None:
    deep: Any = 1
    for _ in range(190):
        deep = [deep]
    added = (await api.post("/memory/add", {"text": "deep thoughts", "metadata": {"deep": deep}})).json()
    assert (await api.get(f"/memory/{added['id']}")).json()["metadata"] == {"deep": deep}
    [found] = (await api.post("/memory/query", {"query": "thoughts"})).json()["results"]
    assert found["metadata"] == {"deep": deep}


async def test_a_write_tells_its_space_its_tokens_and_its_exact_cost(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", MOCK), "Ready")
        stored = (await api.post("/memory/add", {"text": "One small thing."})).json()
        assert (stored["embedding_status"], stored["embedding_version"]) == ("embedded", "mock-64-1")
        assert stored["chunks"] == 1
        assert stored["tokens"] > 0
        assert stored["cost"].startswith("0.0000")
        assert float(stored["cost"]) == pytest.approx(stored["tokens"] * 0.00002 / 1000)
        diagnostics = (await api.post("/memory/query", {"query": "small"})).json()["diagnostics"]
        assert (diagnostics["semantic_status"], diagnostics["coverage"]) == ("ok", None)
        assert set(diagnostics["channels"]) == {"fulltext", "semantic"}


async def test_a_change_keeps_what_it_does_not_name_and_null_takes_away(api: Api) -> None:
    given = {"text": "First.", "summary": "s", "type": "t", "tags": ["a"], "importance": 0.5}
    memory = (await api.post("/memory/add", given)).json()["id"]
    changed = (await api.patch(f"/memory/{memory}", {"text": "Second.", "summary": None})).json()
    assert (changed["id"], changed["version_no"]) == (memory, 2)
    shown = (await api.get(f"/memory/{memory}")).json()
    assert (shown["text"], shown["summary"], shown["type"], shown["tags"]) == ("Second.", None, "t", ["a"])
    assert shown["importance"] == 0.5
    for nothing in ({}, {"text": None}, {"tags": None}, {"project": "x"}, {"text": ""}):
        refused(await api.patch(f"/memory/{memory}", nothing), 400)
    refused(await api.patch(f"/memory/{uuid4()}", {"text": "x"}), 404)
    assert (await api.get(f"/memory/{memory}")).json()["version_no"] == 2


async def test_what_is_forgotten_is_found_no_more_and_has_a_history(api: Api) -> None:
    memory = (await api.post("/memory/add", {"text": "Forget the staging password."})).json()["id"]
    answer = await api.delete(f"/memory/{memory}")
    assert (answer.status_code, answer.content) == (204, b"")
    refused(await api.get(f"/memory/{memory}"), 404)
    refused(await api.delete(f"/memory/{memory}"), 404)
    refused(await api.patch(f"/memory/{memory}", {"text": "x"}), 404)
    assert (await api.post("/memory/query", {"query": "staging"})).json()["results"] == []
    tombstone, first = (await api.get(f"/memory/{memory}/history")).json()["versions"]
    assert (tombstone["tombstone"], tombstone["current"], tombstone["text"]) == (True, True, None)
    assert (first["tombstone"], first["current"], first["text"]) == (False, False, "Forget the staging password.")


async def test_a_purge_erases_everywhere_and_confirms_what(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", MOCK), "Ready")
        memory = (await api.post("/memory/add", {"text": "A secret."})).json()["id"]
        await api.patch(f"/memory/{memory}", {"text": "Another secret."})
        answer = await api.delete(f"/memory/{memory}", params={"purge": "true"})
        assert answer.status_code == 200
        confirmed = answer.json()
        assert "backups" in confirmed.pop("remains")
        assert confirmed == {
            "status": "purged",
            "id": memory,
            "erased": {"versions": 2, "chunks": 2, "vectors": {"mock-64-1": 1}},
        }
        versions = (await api.get(f"/memory/{memory}/history")).json()["versions"]
        assert [(v["text"], v["purged"]) for v in versions] == [(None, False), (None, True), (None, True)]
        assert await world.value("select count(*) from memory_chunks") == 0
        assert await world.value("select count(*) from memory_vectors_1") == 0
        [entry] = [e for e in (await api.get("/activity")).json()["activities"] if e["kind"] == "memory_purged"]
        assert "secret" not in str(entry)


async def test_a_long_history_comes_page_by_page(api: Api) -> None:
    memory = (await api.post("/memory/add", {"text": "version 1"})).json()["id"]
    for number in range(2, 6):
        await api.patch(f"/memory/{memory}", {"text": f"version {number}"})
    pages, before = [], None
    while True:
        query = {"limit": 2} if before is None else {"limit": 2, "before_version": before}
        page = (await api.get(f"/memory/{memory}/history", params=query)).json()
        pages.append([version["version_no"] for version in page["versions"]])
        before = page["next_before_version"]
        if before is None:
            break
    assert pages == [[5, 4], [3, 2], [1]]


async def test_filters_and_k_narrow_what_is_found(api: Api) -> None:
    for number in range(3):
        await api.post("/memory/add", {"text": f"gate {number}", "tags": [f"t{number}"], "type": "note", "source": "s"})
    ask: dict[str, Any] = {"query": "gate"}
    assert len((await api.post("/memory/query", ask)).json()["results"]) == 3
    assert len((await api.post("/memory/query", {**ask, "k": 1})).json()["results"]) == 1
    for filters, count in (
        ({"tags": ["t1"]}, 1),
        ({"type": "note", "source": "s"}, 3),
        ({"type": "other"}, 0),
        ({"created_after": "2000-01-01T00:00:00Z"}, 3),
        ({"created_before": "2000-01-01T00:00:00+02:00"}, 0),
        (None, 3),
    ):
        assert len((await api.post("/memory/query", {**ask, "filters": filters})).json()["results"]) == count, filters


async def test_an_unknown_project_has_no_results_and_is_no_error(api: Api) -> None:
    answer = await api.post("/memory/query", {"query": "anything", "project": "nowhere"})
    assert (answer.status_code, answer.json()["results"]) == (200, [])


async def test_a_store_that_is_gone_is_told_as_such(api: Api) -> None:
    await api.store.__aexit__(None, None, None)
    problem = refused(await api.get("/v1/embeddings/spaces"), 503, "unavailable")
    assert "database" in problem["detail"]
    answer = await api.get("/readyz")
    assert (answer.status_code, "database" in answer.text) == (503, True)
    assert (await api.get("/livez")).status_code == 200


async def test_metrics_know_routes_and_neither_ids_nor_texts(api: Api) -> None:
    memory = (await api.post("/memory/add", {"text": "hunter2", "project": "hunter3"})).json()["id"]
    await api.get(f"/memory/{memory}")
    await api.post("/memory/query", {"query": "hunter2", "project": "hunter3"})
    await api.get("/hunter4")
    await api.http.request("HUNTER5", "/")
    metrics = (await api.get("/metrics")).text
    assert 'route="/memory/{memory_id}"' in metrics
    assert 'route="/memory/add"' in metrics
    assert 'route="unmatched"' in metrics
    assert memory not in metrics
    assert "hunter" not in metrics.lower()


async def test_a_query_asks_the_channels_that_it_names(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", MOCK), "Ready")
        await api.post("/memory/add", {"text": "One small thing."})
        for name in ("fulltext", "semantic"):
            answer = (await api.post("/memory/query", {"query": "small", "channels": [name]})).json()
            assert [result["match_kind"] for result in answer["results"]] == [name]
            channels = answer["diagnostics"]["channels"]
            assert [channel for channel, one in channels.items() if one["status"] != "skipped"] == [name]
    for wrong in ([], ["words"], "fulltext"):
        refused(await api.post("/memory/query", {"query": "small", "channels": wrong}), 400)


async def test_an_explained_query_shows_figures_that_add_up_to_each_score(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", MOCK), "Ready")
        for text in ("One small thing.", "Another small thing, larger than one.", "Nothing like it."):
            await api.post("/memory/add", {"text": text})
        for weights in (None, {"fulltext": 1, "semantic": 3}, {"fulltext": 0, "semantic": 0.5}):
            body = {"query": "one small", "explain": True, **({"weights": weights} if weights else {})}
            answer = (await api.post("/memory/query", body)).json()
            how = answer["diagnostics"]["explanation"]
            assert how["weights_given"] is bool(weights)
            assert len(answer["results"]) == 3
            for result in answer["results"]:
                why = result["diagnostics"]
                parts = [why["agreement"]]
                for name, match in why["channels"].items():
                    channel = how["channels"][name]
                    between = (match["score"] - channel["weakest"]) / (channel["best"] - channel["weakest"])
                    assert match["normalised"] == pytest.approx(max(0, between))
                    assert match["contribution"] == pytest.approx(channel["weight"] * match["normalised"])
                    parts.append(match["contribution"])
                assert result["score"] == pytest.approx(sum(parts))
        assert (await api.post("/memory/query", {"query": "one"})).json()["diagnostics"]["explanation"] is None
    for wrong in ({}, {"fulltext": 1}, {"fulltext": 0, "semantic": 0}, {"fulltext": -1, "semantic": 2}, {"words": 1}):
        refused(await api.post("/memory/query", {"query": "small", "weights": wrong}), 400)


async def test_the_semantic_channel_alone_has_no_results_where_no_space_is_active(api: Api) -> None:
    await api.post("/memory/add", {"text": "One small thing."})
    answer = (await api.post("/memory/query", {"query": "small", "channels": ["semantic"]})).json()
    assert (answer["results"], answer["diagnostics"]["semantic_status"]) == ([], "no_active_space")


async def test_a_query_reads_the_space_that_it_names(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", MOCK), "Ready")
        await api.post("/memory/add", {"text": "One small thing."})
        await world.until_phase(world.cluster.apply("other", {**MOCK, "embedding": {"dimensions": 32}}), "Ready")
        spaces = [space["embedding_version"] for space in (await api.get("/v1/embeddings/spaces")).json()["spaces"]]
        assert len(spaces) == 2
        for version in spaces:
            answer = (await api.post("/memory/query", {"query": "small", "embedding_version": version})).json()
            assert answer["diagnostics"]["embedding_version"] == version
            assert answer["results"][0]["match_kind"] == "both"
    refused(await api.post("/memory/query", {"query": "small", "embedding_version": "nowhere-1"}), 404)


async def test_a_project_has_a_language_that_is_shown_and_set(api: Api) -> None:
    assert (await api.get("/v1/projects")).json() == {"projects": []}
    await api.post("/memory/add", {"text": "Die Sicherungen laufen in der Nacht.", "project": "notes"})
    [shown] = (await api.get("/v1/projects")).json()["projects"]
    automatic = {"project": "notes", "language": "auto", "languages": ["english", "german"], "rewriting": False}
    assert shown == automatic
    changed = await api.post("/v1/projects/language", {"project": "notes", "language": "german"})
    assert changed.json() == {**automatic, "language": "german", "rewriting": True}
    assert "german" in refused(await api.post("/v1/projects/language", {"language": "Deutsch"}), 400)["hint"]


async def test_an_answer_has_the_shape_that_was_asked_for(api: Api) -> None:
    for text in ("The needle is here.", "the needle is here", "Straw."):
        await api.post("/memory/add", {"text": text})
    [result] = (await api.post("/memory/query", {"query": "needle", "context": 1})).json()["results"]
    assert (len(result["also"]), result["before"], result["after"]) == (1, [], [])
    shaped = {"query": "needle", "fold": False, "granularity": "chunk", "min_score": 0.0}
    assert len((await api.post("/memory/query", shaped)).json()["results"]) == 2
    assert (await api.post("/memory/query", {"query": "needle", "min_score": 1.0})).json()["diagnostics"]["cut"] is None
    for wrong in ({"min_score": 2}, {"granularity": "word"}, {"context": -1}, {"fold": 1}):
        refused(await api.post("/memory/query", {"query": "needle", **wrong}), 400)
