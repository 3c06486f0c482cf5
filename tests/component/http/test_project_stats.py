"""What each space has of one project, over HTTP."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from memory_operator.http.auth.tokens import token_auth

STATS = "/v1/projects/stats"
MOCK = {"type": "mock", "model": "a", "embedding": {"dimensions": 64}}


async def test_chunks_of_a_project_are_counted_by_what_became_of_them(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", MOCK), "Ready")
        for project in ("notes", "notes", "other"):
            await api.post("/memory/add", {"text": f"something of {project}", "project": project})
        notes = (await api.get(STATS, params={"project": "notes"})).json()
        [space] = notes.pop("spaces")
        assert notes == {
            "project": "notes",
            "tenant": "default",
            "memories": 2,
            "chunks": 2,
            "outdated": 0,
            "rewriting": False,
        }
        assert space == {
            "embedding_version": "a-64-1",
            "provider": "default/memory",
            "state": "ready",
            "vectors": 2,
            "coverage": 1.0,
            "quarantined": 0,
            "pending": 0,
            "missing": 0,
        }
    await world.stored_texts(["missing", "refused", "waits"], project="notes")
    ids = [row["id"] for row in await world.fetch("select id from memory_chunks order by id desc limit 2")]
    await world.fetch(
        "insert into memory_embedding_quarantine (space_id, chunk_id, reason) values (1, $1, 'no')", ids[1]
    )
    await world.fetch("insert into memory_embedding_pending (space_id, chunk_id) values (1, $1)", ids[0])
    [space] = (await api.get(STATS, params={"project": "notes"})).json()["spaces"]
    assert (space["vectors"], space["missing"], space["quarantined"], space["pending"]) == (2, 1, 1, 1)
    assert space["coverage"] == 0.5


async def test_a_project_that_is_not_there_names_those_that_are(world: World, api: Api) -> None:
    nothing = refused(await api.get(STATS, params={"project": "notes"}), 404, "not_found")
    assert "no project" in nothing["hint"]
    for project in ("b", "a"):
        await api.post("/memory/add", {"text": "said", "project": project})
    problem = refused(await api.get(STATS, params={"project": "notes"}), 404, "not_found")
    assert "a, b;" in problem["hint"]
    refused(await api.get(STATS), 400)


async def test_who_may_not_look_at_providers_is_shown_no_space_and_nobody_another_tenants_project(
    world: World, tmp_path: Path
) -> None:
    rights = {"agent": ["memories:create", "memories:get"], "reader": ["read"], "other": ["memories:get", "read"]}
    entries = [
        {
            "name": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "tenant": "other" if name == "other" else "default",
            "rights": granted,
        }
        for name, granted in rights.items()
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(entries))
    async with world.operator(), world.worker():
        await world.until_phase(world.cluster.apply("memory", MOCK), "Ready")
        async with serve(world, token_auth(file), authorization="Bearer agent") as api:
            await api.post("/memory/add", {"text": "said", "project": "notes"})
            own = (await api.get(STATS, params={"project": "notes"})).json()
            assert (own["memories"], own["spaces"]) == (1, [])
            for name, status in (("reader", 403), ("other", 404)):
                headers = {"authorization": f"Bearer {name}"}
                refused(await api.get(STATS, params={"project": "notes"}, headers=headers), status)
