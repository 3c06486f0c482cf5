"""Requests that miss their route by a little are told what is wrong, in our words."""

from __future__ import annotations

import pytest

from fixtures.api import Api, refused
from fixtures.engine import World

MEMORY = "/memory/00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("path", ["/memory/add", "/memory/query"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "PUT"])
async def test_another_method_on_a_route_is_405_and_not_about_an_id(api: Api, path: str, method: str) -> None:
    answer = await api.http.request(method, path)
    assert "POST" in answer.headers["allow"]
    refused(answer, 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs?limt=5", "/v1/usage?group=day", "/v1/stats?project=a", f"{MEMORY}?purge=true", "/activity?a"],
)
async def test_an_unknown_query_parameter_is_refused_by_its_name(api: Api, path: str) -> None:
    problem = refused(await api.get(path), 400, "invalid_request")
    assert problem["detail"].endswith(": unknown query parameter")


async def test_the_address_without_a_path_leads_on(api: Api) -> None:
    assert (await api.get("/")).json()["openapi"] == "/openapi.json"
    page = await api.get("/", headers={"accept": "text/html,*/*"})
    assert "<a href='/docs'>" in page.text
    assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"[]",
        b'{"text": 7}',
        b'{"text": ""}',
        b'{"text": "a", "tags": "b"}',
        b'{"text": "a", "tags": ["' + b"x" * 300 + b'"]}',
        b'{"text": "a", "importance": 7}',
        b'{"text": "a", "importance": "x"}',
        b'{"text": "a", "metadata": 1}',
        b'{"text": "a", "project": null}',
    ],
)
async def test_no_message_is_the_librarys(api: Api, body: bytes) -> None:
    detail = refused(await api.post("/memory/add", body), 400)["detail"]
    for word in ("Input should", "valid string", "pydantic", "ValidationError", "^["):
        assert word not in detail


async def test_the_id_of_no_memory_and_the_name_of_no_provider_are_told_plainly(api: Api) -> None:
    assert "id of a memory" in refused(await api.get("/memory/7"), 400)["detail"]
    detail = refused(await api.post("/v1/embeddings/activate", {"provider": "Nobody"}), 400)["detail"]
    assert "namespace/name" in detail
    assert "[a-z" not in detail


async def test_embedding_of_new_memories_is_switched_by_the_name_of_a_provider(world: World, api: Api) -> None:
    path = "/v1/embeddings/create-enabled"
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}})
        await world.until_phase(ref, "Ready")
        answer = await api.post(path, {"provider": "default/memory", "enabled": False})
        assert (answer.status_code, answer.json()["status"]) == (200, "disabled"), answer.text
        refused(await api.post(path, {"provider": "default/nobody", "enabled": False}), 404)
        refused(await api.post(path, {"enabled": False}), 400)
        refused(await api.post(path, {"provider": "a/b", "embedding_version": "c", "enabled": False}), 400)
