"""The API over real HTTP on a real database."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from fixtures.engine import World, until
from memory_operator.engine.catalog import Catalog
from memory_operator.engine.consents import Consents
from memory_operator.engine.recall import Recall
from memory_operator.engine.remember import Remember
from memory_operator.errors import ConfigurationError
from memory_operator.http.auth import no_auth
from memory_operator.http.serve import serve_api
from memory_operator.http.services import Services

CONSENT = "/admin/embedding-dimension-change"


@pytest.fixture
async def api(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running API without authentication."""
    services = Services(
        world.store,
        Remember(world.store, world.connector, world.keys),
        Recall(world.store, world.connector, world.keys),
        Catalog(world.store),
        Consents(world.store),
    )
    port, stop = free_port(), asyncio.Event()
    server = asyncio.create_task(serve_api(services, no_auth("127.0.0.1"), "127.0.0.1", port, stop, probes=True))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:

        async def is_up() -> bool:
            try:
                return (await client.get("/livez")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_up)
        yield client
    stop.set()
    await asyncio.wait_for(server, 20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mock(dimensions: int) -> dict[str, object]:
    return {"type": "mock", "embedding": {"dimensions": dimensions}}


async def test_a_memory_is_added_found_changed_forgotten_and_purged(world: World, api: httpx.AsyncClient) -> None:
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", mock(64))
        await world.until_phase(ref, "Ready")
        added = await api.post("/memory/add", json={"text": "The gate opens once.", "tags": ["gate"]})
        assert added.status_code == 201, added.text
        memory = added.json()
        assert memory["embedding_status"] == "embedded"
        assert memory["embedding_version"] == "mock-64-1"
        found = (await api.post("/memory/query", json={"query": "gate", "k": 3})).json()
        assert [result["id"] for result in found["results"]] == [memory["id"]]
        assert found["diagnostics"]["semantic_status"] == "ok"
        changed = await api.patch(f"/memory/{memory['id']}", json={"text": "The gate opens twice."})
        assert changed.json()["version_no"] == 2
        assert (await api.get(f"/memory/{memory['id']}")).json()["text"] == "The gate opens twice."
        history = (await api.get(f"/memory/{memory['id']}/history")).json()
        assert [version["version_no"] for version in history["versions"]] == [2, 1]
        assert (await api.delete(f"/memory/{memory['id']}")).status_code == 204
        assert (await api.get(f"/memory/{memory['id']}")).status_code == 404
        purged = await api.delete(f"/memory/{memory['id']}", params={"purge": "true"})
        assert purged.json()["erased"]["chunks"] >= 2
        assert await world.value("select count(*) from memory_chunks") == 0


async def test_consent_by_curl_applies_the_change_within_a_second(world: World, api: httpx.AsyncClient) -> None:
    async with world.operator(), world.worker():
        await world.stored(30)
        ref = world.cluster.apply("memory", mock(64))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", mock(128))
        await world.until_phase(ref, "Held")
        held = (await api.get(CONSENT)).json()["held"]
        assert [(h["provider"], h["from"], h["to"], h["vectors_discarded"]) for h in held] == [
            ("default/memory", 64, 128, 30)
        ]
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await api.post(CONSENT, content=b'{"target_dim":128}', headers=form)
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert document["status"] == "consent recorded"
        assert document["matches_held_change"] is True
        assert document["effect"]["vectors_discarded"] == 30
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, seconds=1)
        await world.until_phase(ref, "Ready")
        markers = (await api.get(CONSENT)).json()["markers"]
        assert [marker["state"] for marker in markers] == ["consumed"]
        refused = await api.delete(f"{CONSENT}/{markers[0]['id']}")
        assert (refused.status_code, refused.json()["code"]) == (409, "marker_consumed")


@pytest.mark.parametrize(
    "body",
    [
        b'{"target_dim":true}',
        b'{"target_dim":"128"}',
        b'{"target_dim":128.0}',
        b"",
        b"[]",
        b'{"target_dim":128,"force":true}',
        b"\xff\xfe",
        b'{"target_dim":NaN}',
    ],
)
async def test_a_target_that_is_no_integer_is_refused_with_a_hint(api: httpx.AsyncClient, body: bytes) -> None:
    answer = await api.post(CONSENT, content=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["hint"]


@pytest.mark.parametrize("target", [0, -1, 2001, 10**30])
async def test_a_target_out_of_range_is_refused_in_the_words_of_the_contract(
    api: httpx.AsyncClient, target: int
) -> None:
    answer = await api.post(CONSENT, json={"target_dim": target})
    assert (answer.status_code, answer.json()["detail"]) == (400, "target_dim must be between 1 and 2000")


async def test_a_page_of_another_origin_cannot_consent(api: httpx.AsyncClient) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        answer = await api.post(CONSENT, json={"target_dim": 128}, headers=headers)
        assert answer.status_code == 403, headers


async def test_a_body_over_one_mebibyte_is_refused_also_when_it_comes_in_chunks(api: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    for content in (b"x" * (2**20 + 1), chunks()):
        assert (await api.post("/memory/add", content=content)).status_code == 413


async def test_without_authentication_nothing_but_loopback_is_bound() -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        no_auth("0.0.0.0")


async def test_retired_spaces_are_pruned_after_a_dry_run_that_names_them(world: World, api: httpx.AsyncClient) -> None:
    async with world.operator(), world.worker():
        await world.stored(10)
        ref = world.cluster.apply("memory", mock(64))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", {"type": "mock", "model": "b", "embedding": {"dimensions": 64}})
        await until(lambda: world.cluster.statuses[ref].embedding.embedding_version == "b-64-2")
        dry = (await api.post("/v1/prune-embeddings", json={"dry_run": True})).json()
        assert [(s["embedding_version"], s["vectors"]) for s in dry["spaces"]] == [("mock-64-1", 10)]
        done = (await api.post("/v1/prune-embeddings")).json()
        assert [s["embedding_version"] for s in done["spaces"]] == ["mock-64-1"]
        assert await world.value("select to_regclass('memory_vectors_1') is null")
        left = (await api.get("/v1/embeddings/spaces")).json()["spaces"]
        assert [(s["embedding_version"], s["active"]) for s in left] == [("b-64-2", True)]


async def test_docs_and_openapi_need_no_network(api: httpx.AsyncClient) -> None:
    assert "/admin/embedding-dimension-change" in (await api.get("/docs")).text
    assert "https://" not in (await api.get("/docs")).text
    assert (await api.get("/openapi.json")).json()["info"]["title"] == "memory-operator"
