"""The failure modes of the seed: each symptom is answered by the first check that it names, with cause and remedy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.api import Api, serve
from fixtures.commands import memory
from fixtures.engine import World
from fixtures.fills import provider
from fixtures.waiting import until
from memory_operator.http.auth.tokens import token_auth
from vendor.script import Fault
from vendor.stub import StubVendor

RIGHTS = ["memories:create", "memories:get", "read"]


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def ready(world: World, vendor: StubVendor) -> None:
    await world.until_phase(world.cluster.apply("memory", provider(vendor)), "Ready")


async def test_good_exact_query_returns_nothing__wrong_project_slug_or_missing_memory(
    world: World, api: Api, vendor: StubVendor
) -> None:
    async with world.operator(), world.worker():
        await ready(world, vendor)
        stored = (await api.post("/memory/add", {"text": "Backups run at two.", "project": "notes"})).json()
        wrong = await memory(api, "stats", "--project", "nots")
        assert wrong.code == 1
        assert "there is no project nots of tenant default" in wrong.err
        assert "this tenant has memories in: notes" in wrong.err
        right = await memory(api, "stats", "--project", "notes")
        assert (right.code, right.err) == (0, "")
        assert "memories of notes\t1\nchunks of notes\t1\n" in right.out
        await api.delete(f"/memory/{stored['id']}")
        missing = await memory(api, "stats", "--project", "notes")
        assert "! notes has no memories\nhint: " in missing.err
        assert "memory add TEXT -p notes" in missing.err


async def test_semantic_search_is_empty__embeddings_missing(world: World, api: Api, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        await ready(world, vendor)
        await world.stored_texts(["one", "two"], project="notes")
        ran = await memory(api, "embeddings", "status", "--project", "notes")
        assert "! 2 chunks of notes have no vector in a-64-1\n" in ran.err
        remedy = "memory embeddings reembed --project notes --space a-64-1"
        assert f"hint: {remedy}\n" in ran.err
        assert (await memory(api, *remedy.split()[1:], "--wait")).code == 0
        mended = await memory(api, "embeddings", "status", "--project", "notes")
        assert (mended.err, "a-64-1\tready\t2\t100 %\t0\t0\t0\n" in mended.out) == ("", True)


async def test_semantic_search_is_empty__provider_down(world: World, api: Api, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        await ready(world, vendor)
        vendor.fault = Fault(status=503)
        added = (await api.post("/memory/add", {"text": "Backups run at two.", "project": "notes"})).json()
        assert added["embedding_status"] == "pending"
        last_error = "select count(*) > 0 from memory_embedding_spaces where trouble is not null"
        await until(lambda: world.value(last_error), "the embedder is known to be down")
        ran = await memory(api, "embeddings", "status", "--project", "notes")
        assert "! the embedder of a-64-1 gives no vectors: " in ran.err
        assert "hint: memory doctor; kubectl describe provider memory\n" in ran.err
        assert "! 1 chunks of notes wait for the embedder of a-64-1\n" in ran.err
        vendor.fault = None
        await until(lambda: world.value("select count(*) = 1 from memory_vectors_1"), "it is made by itself")
        assert (await memory(api, "embeddings", "status", "--project", "notes")).err == ""


async def test_file_specific_query_misses_context__index_stale(world: World, api: Api, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        await ready(world, vendor)
        await api.post("/memory/add", {"text": "See src/route.py for the split.", "project": "notes"})
        await world.fetch("update memory_chunks set chunker_version = 0, text = text")
        ran = await memory(api, "stats", "--project", "notes")
        assert "! 1 memories of notes were cut by other rules\n" in ran.err
        remedy = "memory embeddings reindex --project notes"
        assert f"hint: {remedy}\n" in ran.err
        assert (await memory(api, *remedy.split()[1:], "--wait")).code == 0
        assert (await memory(api, "stats", "--project", "notes")).err == ""


async def test_answer_cites_old_facts__memory_needs_replacement(world: World, api: Api, vendor: StubVendor) -> None:
    async with world.operator(), world.worker():
        await ready(world, vendor)
        stored = (await api.post("/memory/add", {"text": "Backups run at two."})).json()
        ran = await memory(api, "history", stored["id"])
        assert "queries find version 1 alone" in ran.err
        assert f"memory edit {stored['id']} replaces it" in ran.err
        assert (await memory(api, "edit", stored["id"], "Backups run at three.")).code == 0
        ran = await memory(api, "history", stored["id"][:8])
        assert "queries find version 2 alone" in ran.err
        found = await memory(api, "query", "when do backups run", "--json")
        assert [hit["text"] for hit in json.loads(found.out)["results"]] == ["Backups run at three."]


async def test_query_works_in_cli_but_not_ui__service_or_api_token_mismatch(
    world: World, vendor: StubVendor, tmp_path: Path
) -> None:
    tokens = {"ours": "default", "theirs": "other"}
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": tenant, "rights": RIGHTS}
        for name, tenant in tokens.items()
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(entries))
    async with world.operator(), world.worker():
        await ready(world, vendor)
        async with serve(world, token_auth(file), authorization="Bearer ours") as api:
            await api.post("/memory/add", {"text": "Backups run at two.", "project": "notes"})
            right = await memory(api, "status", "--project", "notes", token="ours")
            assert (right.code, right.err) == (0, "")
            assert f"server\thttp://127.0.0.1:{api.port}\n" in right.out
            assert "project\tnotes\ntenant\tdefault\n" in right.out
            other = await memory(api, "status", "--project", "notes", token="theirs")
            assert other.code == 1
            assert "there is no project notes of tenant other" in other.err
            assert "a token of another tenant sees others" in other.err
            none = await memory(api, "status", "--project", "notes", token="wrong")
            assert none.code == 1
            assert "put the token into MEMORY_TOKEN" in none.err
