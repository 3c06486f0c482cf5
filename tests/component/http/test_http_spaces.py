"""Spaces over HTTP: listed, watched, activated, pruned."""

from __future__ import annotations

import asyncio
from typing import Any

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from fixtures.waiting import until

SPACES = "/v1/embeddings/spaces"
ACTIVATE = "/v1/embeddings/activate"


def mock(model: str, dimensions: int = 64, **embedding: Any) -> dict[str, Any]:
    return {"type": "mock", "model": model, "embedding": {"dimensions": dimensions, **embedding}}


async def listed(api: Api) -> dict[str, dict[str, Any]]:
    """The spaces by embedding version."""
    return {space["embedding_version"]: space for space in (await api.get(SPACES)).json()["spaces"]}


async def states(api: Api) -> dict[str, tuple[str, bool]]:
    return {version: (space["state"], space["active"]) for version, space in (await listed(api)).items()}


async def diagnostics_of_a_query(api: Api) -> dict[str, Any]:
    """Diagnostics of a query."""
    found: dict[str, Any] = (await api.post("/memory/query", {"query": "memory"})).json()["diagnostics"]
    return found


async def test_a_space_is_listed_with_its_figures_and_without_how_to_call_its_embedder(world: World, api: Api) -> None:
    await world.stored(7)
    async with world.operator(), world.worker():
        spec = {**mock("a", queryPrefix="q: "), "headers": {"X-Secret": "hunter2"}}
        await world.until_phase(world.cluster.apply("memory", spec), "Ready")
        answer = await api.get(SPACES)
        [space] = answer.json()["spaces"]
        assert "hunter2" not in answer.text
        assert space.pop("created_at")
        assert space == {
            "embedding_version": "a-64-1",
            "provider": "default/memory",
            "type": "mock",
            "model": "a",
            "dimensions": 64,
            "column_type": "vector",
            "distance": "cosine",
            "index": "none",
            "index_reason": "an exact scan is as fast below 1000 vectors",
            "unindexed": 0,
            "state": "ready",
            "active": True,
            "vectors": 7,
            "chunks": 7,
            "coverage": 1.0,
            "quarantined": 0,
            "pending": 0,
            "create_enabled": True,
            "trouble": None,
            "kept_until": None,
            "keep_ended": None,
            "kept_tokens": 0,
            "kept_cost": None,
            "cost_per_1k": None,
        }


async def test_status_tells_totals_the_fill_and_what_is_held(world: World, api: Api) -> None:
    await world.stored(7)
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", mock("a")), "Ready")
        status = (await api.get("/v1/embeddings/status")).json()
        assert (status["semantic_status"], status["chunks"]) == ("ok", 7)
        assert status["active"]["embedding_version"] == "a-64-1"
        [job] = status["jobs"]
        assert (job["state"], job["done"], job["total"], job["eta_seconds"]) == ("done", 7, 7, None)
        assert job["rate"] > 0
        assert (await api.get("/v1/jobs")).json()["jobs"] == [job]
        stats = (await api.get("/v1/stats")).json()
        assert stats == {
            "memories": 7,
            "projects": [{"project": "default", "memories": 7}],
            "chunks": 7,
            "vectors": 7,
            "spaces": 1,
            "held": 0,
        }


async def test_a_second_provider_is_activated_by_hand_once_it_is_full(world: World, api: Api) -> None:
    await world.stored(5)
    async with world.operator(), world.worker():
        first = world.cluster.apply("first", mock("a"))
        await world.until_phase(first, "Ready")
        second = world.cluster.apply("second", mock("b", 32))
        await world.until_phase(second, "Ready")
        assert await states(api) == {"a-64-1": ("ready", True), "b-32-2": ("ready", False)}
        document = (await api.post(ACTIVATE, {"embedding_version": "b-32-2"})).json()
        assert (document["status"], document["embedding_version"]) == ("activated", "b-32-2")
        assert document["space"]["active"] is True
        assert (await diagnostics_of_a_query(api))["embedding_version"] == "b-32-2"
        # The operator hears of it and says so in both statuses.
        await until(lambda: world.cluster.statuses[second].embedding.active, "the second Provider's space is active")
        await until(
            lambda: not world.cluster.statuses[first].embedding.active, "the first Provider's space is active no more"
        )
        await api.post(ACTIVATE, {"provider": "default/first"})
        assert await states(api) == {"a-64-1": ("ready", True), "b-32-2": ("ready", False)}


async def test_a_space_that_lacks_vectors_is_activated_only_by_force_and_the_refusal_has_the_figures(
    world: World, api: Api
) -> None:
    async with world.operator():  # and no worker, so that nothing is filled
        await world.until_phase(world.cluster.apply("first", mock("a")), "Reembedding")
        await world.stored(10)
        world.cluster.apply("second", mock("b"))
        await until(lambda: listed(api), "the spaces are listed")

        async def both() -> bool:
            return len(await listed(api)) == 2

        await until(both, "both spaces are told")
        problem = refused(await api.post(ACTIVATE, {"embedding_version": "b-64-2"}), 409, "coverage_below_threshold")
        assert (problem["coverage"], problem["vectors"], problem["chunks"], problem["quarantined"]) == (0.0, 0, 10, 0)
        assert problem["threshold"] == 0.99
        assert "force" in problem["hint"]
        assert (await api.post(ACTIVATE, {"embedding_version": "b-64-2", "force": True})).status_code == 200
        diagnostics = await diagnostics_of_a_query(api)
        assert (diagnostics["semantic_status"], diagnostics["coverage"]) == ("filling", 0.0)
        assert (await api.get("/v1/embeddings/status")).json()["semantic_status"] == "filling"


async def test_activating_the_space_beside_switches_a_provider_that_waits_for_it(world: World, api: Api) -> None:
    await world.stored(5)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock("a", activation="Manual"))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", mock("b", activation="Manual"))

        async def full_beside() -> bool:
            return (await states(api)).get("b-64-2") == ("ready", False)

        await until(full_beside, "the space beside is full")
        assert (await diagnostics_of_a_query(api))["embedding_version"] == "a-64-1"
        await api.post(ACTIVATE, {"provider": "default/memory"})
        assert await states(api) == {"a-64-1": ("retired", False), "b-64-2": ("ready", True)}
        await until(
            lambda: world.cluster.statuses[ref].embedding.embedding_version == "b-64-2",
            "the space of model b is the applied one",
        )
        assert world.cluster.statuses[ref].embedding.active
        await world.fetch("update memory_embedding_spaces set kept_until = now() where id = 1")
        await world.stored(1)
        problem = refused(await api.post(ACTIVATE, {"embedding_version": "a-64-1"}), 409, "space_retired")
        assert "default/memory" in problem["hint"]
        assert (problem["lacking"], problem["chunks"]) == (1, 6)
        # The way back is an edit, which embeds only what was missed.
        world.cluster.apply("memory", mock("a", activation="Manual"))

        async def old_is_back() -> bool:
            return (await states(api)).get("a-64-1") == ("ready", False)

        await until(old_is_back, "the old space is back")
        await api.post(ACTIVATE, {"embedding_version": "a-64-1"})
        assert await states(api) == {"a-64-1": ("ready", True), "b-64-2": ("retired", False)}


async def test_the_space_of_a_provider_that_is_gone_cannot_be_activated(world: World, api: Api) -> None:
    await world.stored(3)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock("a"))
        await world.until_phase(ref, "Ready")
        world.cluster.delete(ref)

        async def orphaned() -> bool:
            return await states(api) == {"a-64-1": ("orphaned", False)}

        await until(orphaned, "the space is orphaned")
        problem = refused(await api.post(ACTIVATE, {"embedding_version": "a-64-1", "force": True}), 409)
        assert problem["code"] == "space_orphaned"
        diagnostics = await diagnostics_of_a_query(api)
        assert (diagnostics["semantic_status"], diagnostics["reason"]) == ("no_active_space", "provider_deleted")


async def test_what_is_not_there_cannot_be_activated(api: Api) -> None:
    for body in ({"embedding_version": "none"}, {"provider": "default/none"}):
        refused(await api.post(ACTIVATE, body), 404, "not_found")
    for body in ({}, {"embedding_version": "a", "provider": "default/a"}, {"embedding_version": "a", "force": 1}):
        refused(await api.post(ACTIVATE, body), 400)


async def test_deactivated_search_answers_from_full_text_until_a_space_is_activated(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", mock("a")), "Ready")
        for number in range(3):
            await api.post("/memory/add", {"text": f"memory number {number}"})
        for body in (None, {}):
            assert (await api.post("/v1/embeddings/deactivate", body)).json() == {"status": "deactivated"}
        answer = (await api.post("/memory/query", {"query": "memory number"})).json()
        assert answer["diagnostics"]["semantic_status"] == "disabled"
        assert {result["match_kind"] for result in answer["results"]} == {"fulltext"}
        assert (await listed(api))["a-64-1"]["vectors"] == 3
        # Another Provider does not change the mind of whoever said so.
        await world.until_phase(world.cluster.apply("other", mock("b")), "Ready")
        assert (await diagnostics_of_a_query(api))["semantic_status"] == "disabled"
        await api.post(ACTIVATE, {"embedding_version": "a-64-1"})
        assert (await diagnostics_of_a_query(api))["semantic_status"] == "ok"


async def test_a_space_that_was_left_out_for_a_while_gets_what_it_missed(world: World, api: Api) -> None:
    path = "/v1/embeddings/create-enabled"
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", mock("a")), "Ready")
        document = (await api.post(path, {"embedding_version": "a-64-1", "enabled": False})).json()
        assert (document["status"], document["space"]["create_enabled"]) == ("disabled", False)
        added = (await api.post("/memory/add", {"text": "Written meanwhile."})).json()
        assert added["embedding_status"] == "pending"
        space = (await listed(api))["a-64-1"]
        assert (space["vectors"], space["chunks"], space["coverage"]) == (0, 1, 0.0)
        await api.post(path, {"embedding_version": "a-64-1", "enabled": True})

        async def full() -> bool:
            space = (await listed(api))["a-64-1"]
            return (space["state"], space["vectors"]) == ("ready", 1)

        await until(full, "the space is full")
        shown = (await api.get(f"/memory/{added['id']}")).json()
        assert (shown["embedding_status"], shown["embedding_version"]) == ("embedded", "a-64-1")
    refused(await api.post(path, {"embedding_version": "none", "enabled": True}), 404)


async def retired_and_orphaned(world: World, api: Api) -> None:
    """One retired space and one orphaned one, beside one in use."""
    await world.stored(4)
    ref = world.cluster.apply("memory", mock("a"))
    await world.until_phase(ref, "Ready")
    world.cluster.apply("memory", mock("b"))
    await until(
        lambda: world.cluster.statuses[ref].embedding.embedding_version == "b-64-2",
        "the space of model b is the applied one",
    )
    gone = world.cluster.apply("gone", mock("c"))
    await world.until_phase(gone, "Ready")
    world.cluster.delete(gone)

    async def settled() -> bool:
        expected = {"a-64-1": ("retired", False), "b-64-2": ("ready", True), "c-64-3": ("orphaned", False)}
        return await states(api) == expected

    await until(settled, "both spaces have come to rest")


async def test_prune_removes_what_its_dry_run_named_and_nothing_else(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await retired_and_orphaned(world, api)
        before = len((await api.get("/activity")).json()["activities"])
        dry = (await api.post("/v1/prune-embeddings", {"dry_run": True})).json()
        assert dry["dry_run"] is True
        assert [(s["embedding_version"], s["provider"], s["state"], s["vectors"]) for s in dry["spaces"]] == [
            ("a-64-1", "default/memory", "retired", 4),
            ("c-64-3", "default/gone", "orphaned", 4),
        ]
        assert all(space["bytes"] > 0 for space in dry["spaces"])
        assert len(await states(api)) == 3
        assert len((await api.get("/activity")).json()["activities"]) == before
        done = (await api.post("/v1/prune-embeddings")).json()
        assert done["spaces"] == dry["spaces"]
        assert await states(api) == {"b-64-2": ("ready", True)}
        assert (
            await world.value("select count(*) from pg_class where relname like 'memory\\_vectors\\_%' and relkind='r'")
            == 1
        )
        assert (await api.post("/v1/prune-embeddings")).json()["spaces"] == []
        kinds = [entry["kind"] for entry in (await api.get("/activity")).json()["activities"]]
        assert kinds[:2] == ["prune", "prune"]


async def test_prune_waits_for_a_reader_and_never_makes_anybody_wait_behind_it(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await retired_and_orphaned(world, api)
        async with world.store.transaction() as conn:
            await conn.execute("select count(*) from memory_vectors_1")
            pruning = asyncio.create_task(api.post("/v1/prune-embeddings"))
            for _ in range(5):
                assert (await api.post("/memory/add", {"text": "Meanwhile."})).status_code == 201
            assert not pruning.done()
        assert [space["embedding_version"] for space in (await pruning).json()["spaces"]] == ["a-64-1", "c-64-3"]


async def test_an_activation_and_its_undoing_are_in_the_history_page_by_page(world: World, api: Api) -> None:
    await world.stored(1)
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", mock("a")), "Ready")
        await api.post("/v1/embeddings/deactivate")
        await api.post(ACTIVATE, {"embedding_version": "a-64-1"})
    everything = (await api.get("/activity")).json()["activities"]
    newest = [(entry["kind"], entry["subject"], entry["actor"]) for entry in everything[:2]]
    assert newest == [("activate", "a-64-1", "local"), ("deactivate", "a-64-1", "local")]
    pages, before = [], None
    while True:
        query = {"limit": 2} if before is None else {"limit": 2, "before": before}
        page = (await api.get("/activity", params=query)).json()
        pages += page["activities"]
        before = page["next_before"]
        if before is None:
            break
    assert pages == everything


async def test_a_provider_that_no_space_could_be_made_for_is_listed_with_the_reason(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        openai = {"type": "openai", "model": "m", "credential": {"secretRef": {"name": "key"}}}
        world.cluster.apply("memory", {**openai, "embedding": {"dimensions": 64}})

        async def told() -> list[dict[str, Any]]:
            waiting: list[dict[str, Any]] = (await api.get(SPACES)).json()["without_space"]
            return [each for each in waiting if each["reason"] == "SecretMissing"]

        [waiting] = await until(told, "it is listed")
        assert waiting["provider"] == "default/memory"
        assert waiting["phase"] == "Error"
        assert "default/key" in waiting["message"]


async def test_a_provider_whose_edit_cannot_be_applied_is_listed_while_its_space_is_in_use(
    world: World, api: Api
) -> None:
    async with world.operator(), world.worker():
        for name, dimensions in (("older", 64), ("younger", 32)):
            spec = {"type": "mock", "model": "m", "embedding": {"dimensions": dimensions}}
            await world.until_phase(world.cluster.apply(name, spec), "Ready")
        assert (await api.get(SPACES)).json()["not_applied"] == []
        world.cluster.apply("older", {"type": "mock", "model": "m", "embedding": {"dimensions": 32}})

        async def told() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await api.get(SPACES)).json()["not_applied"]
            return found

        [refused] = await until(told, "it is listed")
        assert (refused["provider"], refused["reason"]) == ("default/older", "DuplicateSpace")
        assert "default/younger" in refused["message"]


async def test_a_project_is_counted_in_each_space(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", mock("a")), "Ready")
        for project, text in (("one", "first"), ("one", "second"), ("two", "third")):
            await api.post("/memory/add", {"text": text, "project": project})
        await world.until_phase(world.cluster.apply("other", mock("b", createEnabled=False)), "Ready")
        await until(
            lambda: _counted(api, "one", {"a-64-1": (2, 2), "b-64-2": (2, 2)}), "both spaces have both memories"
        )
        await api.post("/memory/add", {"text": "fourth", "project": "one"})
        counted = (await api.get(f"{SPACES}?project=one")).json()["project"]
        assert (counted["memories"], counted["chunks"]) == (3, 3)
        assert await _counted(api, "one", {"a-64-1": (3, 3), "b-64-2": (2, 2)})
        refused(await api.get(f"{SPACES}?project=none"), 404, "not_found")
        assert (await api.get(SPACES)).json()["project"] is None


async def _counted(api: Api, project: str, wanted: dict[str, tuple[int, int]]) -> bool:
    counted = (await api.get(f"{SPACES}?project={project}")).json()["project"]
    return wanted == {each["embedding_version"]: (each["memories"], each["chunks"]) for each in counted["spaces"]}


async def test_each_replica_answers_from_the_space_that_another_one_activated(world: World, api: Api) -> None:
    await world.stored(3)
    async with world.operator(), world.worker(), serve(world) as other:
        await world.until_phase(world.cluster.apply("memory", mock("a")), "Ready")
        await world.until_phase(world.cluster.apply("other", mock("b")), "Ready")
        for _ in range(3):
            for version in ("b-64-2", "a-64-1"):
                activated = await api.post(ACTIVATE, {"embedding_version": version})
                assert activated.status_code == 200, activated.text
                assert (await diagnostics_of_a_query(other))["embedding_version"] == version
