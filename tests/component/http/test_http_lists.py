"""Memories page by page, and chunks that an embedder refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from fixtures.waiting import until
from memory_operator.http.auth.tokens import token_auth
from vendor import Fault, StubVendor

QUARANTINE = "/v1/embeddings/quarantine"


async def every_page(api: Api, path: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = (await api.get(path, params=params)).json()
        found += page["memories"]
        if page["next_before"] is None:
            return found
        params["before"] = page["next_before"]


async def test_memories_are_listed_whole_page_by_page_newest_first(api: Api) -> None:
    given = [{"text": f"memory {number}", "project": f"p{number % 2}", "tags": ["t"]} for number in range(7)]
    ids = [(await api.post("/memory/add", each)).json()["id"] for each in given]
    await api.patch(f"/memory/{ids[0]}", {"text": "memory 0, changed"})
    await api.delete(f"/memory/{ids[1]}")
    found = await every_page(api, "/v1/memories", limit=2)
    assert [each["text"] for each in found] == ["memory 0, changed", *(f"memory {n}" for n in (6, 5, 4, 3, 2))]
    assert found[1]["tags"] == ["t"]
    only = await every_page(api, "/v1/memories", limit=2, project="p1")
    assert [each["text"] for each in only] == ["memory 5", "memory 3"]
    assert await every_page(api, "/v1/memories", project="nobody's") == []
    for bad in ({"project": "a\x00b"}, {"before": 0}, {"limit": 201}, {"projekt": "p1"}, {"id": "3f2"}, {"id": "wxyz"}):
        refused(await api.get("/v1/memories", params=bad), 400)


async def test_a_memory_is_found_by_the_beginning_of_its_id_however_old_it_is(api: Api) -> None:
    ids = [(await api.post("/memory/add", {"text": f"memory {number}"})).json()["id"] for number in range(9)]
    for length in (4, 8, 9, 18, 32):
        beginning = ids[0][:length]
        found = (await api.get("/v1/memories", params={"id": beginning.upper()})).json()["memories"]
        assert {each["id"] for each in found} == {each for each in ids if each.startswith(beginning)}
    await api.delete(f"/memory/{ids[0]}")
    assert await every_page(api, "/v1/memories", id=ids[0][:18]) == []
    assert await every_page(api, "/v1/memories", id=ids[1][:18], project="nobody's") == []


async def test_a_page_of_long_memories_is_short_and_leaves_none_out(api: Api) -> None:
    for number in range(6):
        await api.post("/memory/add", {"text": f"{number} " + "x" * 1_000_000})
    first = (await api.get("/v1/memories")).json()
    assert 1 <= len(first["memories"]) < 6
    assert [each["text"][0] for each in await every_page(api, "/v1/memories")] == list("543210")


async def test_a_refused_chunk_is_listed_with_its_reason_and_tried_once_more(world: World, api: Api) -> None:
    with StubVendor(64) as vendor:
        vendor.fault = Fault(status=400, containing="poison")
        spec = {"type": "openai_compatible", "model": "m", "baseURL": vendor.base_url, "embedding": {"dimensions": 64}}
        async with world.operator(), world.worker():
            added = [(await api.post("/memory/add", {"text": text})).json() for text in ("good", "poison", "fine")]
            await world.until_phase(world.cluster.apply("memory", spec), "Ready")

            async def listed() -> list[dict[str, Any]]:
                return list((await api.get(QUARANTINE)).json()["quarantined"])

            [entry] = await until(listed, "the refused chunk is listed")
            assert (entry["memory"], entry["project"]) == (added[1]["id"], "default")
            assert (entry["provider"], entry["embedding_version"]) == ("default/memory", "m-64-1")
            assert entry["reason"]
            assert (await api.get(QUARANTINE, params={"before": entry["id"]})).json()["quarantined"] == []
            assert (await api.get(QUARANTINE, params={"embedding_version": "x"})).json()["quarantined"] == []
            vendor.fault = None
            assert (await api.post(f"{QUARANTINE}/retry", {"ids": [entry["id"], "999.1"]})).json() == {"retried": 1}

            async def embedded() -> bool:
                shown = (await api.get(f"/memory/{added[1]['id']}")).json()
                return shown["embedding_status"] == "embedded"

            await until(embedded, "the chunk has its vector")
            assert await listed() == []
        refused(await api.post(f"{QUARANTINE}/retry", {"ids": ["1"]}), 400)
        refused(await api.get(QUARANTINE, params={"before": "x.y"}), 400)


async def test_projects_of_other_tenants_are_named_to_nobody(world: World, tmp_path: Path) -> None:
    entries = [
        {
            "name": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "tenant": name,
            "rights": ["memories:create", "memories:get", "read", "jobs"],
        }
        for name in ("mine", "theirs")
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(entries))
    async with serve(world, token_auth(file)) as api, world.operator(), world.worker():
        provider = world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}})
        await world.until_phase(provider, "Ready")
        mine, theirs = ({"headers": {"authorization": f"Bearer {name}"}} for name in ("mine", "theirs"))
        await api.post("/memory/add", {"text": "a", "project": "secret plan"}, **theirs)
        begun = await api.post("/v1/reembed", {"project": "secret plan", "replace": True}, **theirs)
        assert begun.json()["spaces"][0]["job"]["project"] == "secret plan"
        job = begun.json()["spaces"][0]["job"]["id"]
        for path in ("/v1/jobs", f"/v1/jobs/{job}", "/v1/embeddings/status", "/v1/memories", QUARANTINE):
            answer = await api.get(path, **mine)
            assert answer.status_code == 200, answer.text
            assert "secret plan" not in answer.text
        assert "secret plan" in (await api.get(f"/v1/jobs/{job}", **theirs)).text
        [memory] = (await api.get("/v1/memories", **theirs)).json()["memories"]
        assert memory["project"] == "secret plan"
