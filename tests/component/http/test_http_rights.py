"""Who may do what over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.api import Api, refused, serve
from fixtures.engine import World
from fixtures.reviews import ApiServer
from fixtures.waiting import until
from memory_operator.http.auth.base import (
    ACTIVATE,
    CONSENT,
    DELETE_MEMORIES,
    JOBS,
    PERMISSIONS,
    READ,
    READ_MEMORIES,
    WRITE_MEMORIES,
    Permission,
)
from memory_operator.http.auth.tokens import token_auth

CONSENT_PATH = "/admin/embedding-dimension-change"
MEMORY = "/memory/00000000-0000-4000-8000-000000000000"

NEEDED: list[tuple[Permission, str, str, dict[str, Any] | None]] = [
    (WRITE_MEMORIES, "POST", "/memory/add", {"text": "a"}),
    (WRITE_MEMORIES, "PATCH", MEMORY, {"text": "a"}),
    (READ_MEMORIES, "POST", "/memory/query", {"query": "a"}),
    (READ_MEMORIES, "GET", MEMORY, None),
    (READ_MEMORIES, "GET", f"{MEMORY}/history", None),
    (READ_MEMORIES, "GET", "/v1/stats", None),
    (READ_MEMORIES, "GET", "/v1/projects", None),
    (WRITE_MEMORIES, "POST", "/v1/projects/language", {"language": "auto"}),
    (READ_MEMORIES, "GET", "/v1/memories", None),
    (DELETE_MEMORIES, "DELETE", MEMORY, None),
    (READ, "GET", "/v1/embeddings/spaces", None),
    (READ, "GET", "/v1/embeddings/status", None),
    (READ, "GET", "/v1/jobs", None),
    (READ, "GET", "/activity", None),
    (READ, "GET", CONSENT_PATH, None),
    (CONSENT, "POST", CONSENT_PATH, {"target_dim": 5}),
    (CONSENT, "DELETE", f"{CONSENT_PATH}/1", None),
    (ACTIVATE, "POST", "/v1/embeddings/activate", {"embedding_version": "none"}),
    (ACTIVATE, "POST", "/v1/embeddings/deactivate", {}),
    (ACTIVATE, "POST", "/v1/embeddings/create-enabled", {"embedding_version": "none", "enabled": True}),
    (JOBS, "POST", "/v1/prune-embeddings", {}),
]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def send(api: Api, method: str, path: str, body: dict[str, Any] | None, token: str) -> Any:
    return await api.http.request(method, path, json=body, headers=bearer(token))


@asynccontextmanager
async def tokens(world: World, folder: Path) -> AsyncIterator[Api]:
    """An API whose token `R` has the one right R, in tenant `agents`."""
    entries = [
        {"name": each.name, "sha256": hashlib.sha256(each.name.encode()).hexdigest(), "tenant": "agents"}
        | {"rights": [each.name]}
        for each in PERMISSIONS
    ]
    file = folder / "tokens.json"
    file.write_text(json.dumps(entries))
    async with serve(world, token_auth(file)) as api:
        yield api


async def test_each_route_needs_its_own_right_and_says_which(world: World, tmp_path: Path) -> None:
    async with tokens(world, tmp_path) as api:
        coming = {"target_dim": 7, "provider": "default/coming"}
        recorded = await send(api, "POST", CONSENT_PATH, coming, CONSENT.name)
        assert recorded.json()["id"] == 1
        for right, method, path, body in NEEDED:
            for other in PERMISSIONS:
                answer = await send(api, method, path, body, other.name)
                if other == right:
                    assert answer.status_code not in (401, 403), (method, path, answer.text)
                else:
                    problem = refused(answer, 403, "forbidden")
                    assert f"{right.verb} {right.what}" in problem["detail"], (method, path)
                    assert right.name in problem["hint"]


async def test_without_a_token_nothing_is_answered_but_the_open_pages(world: World, tmp_path: Path) -> None:
    async with tokens(world, tmp_path) as api:
        for _, method, path, body in NEEDED:
            for headers in ({}, bearer("stranger"), {"authorization": "Basic cm9vdDpyb290"}):
                answer = await api.http.request(method, path, json=body, headers=headers)
                refused(answer, 401, "unauthenticated")
                assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/docs", "/openapi.json", "/livez", "/readyz", "/metrics"):
            assert (await api.get(path, headers={"host": "anything.example"})).status_code == 200


async def test_a_stranger_is_turned_away_before_what_they_send_is_looked_at(world: World, tmp_path: Path) -> None:
    async with tokens(world, tmp_path) as api:
        for body in (b"{", b"", b"[" * 1000):
            refused(await api.post("/memory/add", body), 401)
            refused(await api.post("/memory/add", body, headers=bearer("memories:get")), 403)
        refused(await api.get("/memory/not-an-id"), 401)


async def test_a_tenant_never_sees_the_memories_of_another(world: World) -> None:
    server = ApiServer()
    for name in ("blue", "green"):
        account = f"system:serviceaccount:{name}:agent"
        server.user(name, account)
        for right in (WRITE_MEMORIES, READ_MEMORIES, DELETE_MEMORIES):
            server.allow(account, right, name)
    async with serve(world, server.auth()) as api:
        added = await send(api, "POST", "/memory/add", {"text": "Blue's secret."}, "blue")
        memory = f"/memory/{added.json()['id']}"
        for method, path, body in (
            ("GET", memory, None),
            ("GET", f"{memory}/history", None),
            ("PATCH", memory, {"text": "mine"}),
            ("DELETE", memory, None),
            ("DELETE", f"{memory}?purge=true", None),
        ):
            refused(await send(api, method, path, body, "green"), 404)
        query = {"query": "secret"}
        assert (await send(api, "POST", "/memory/query", query, "green")).json()["results"] == []
        assert len((await send(api, "POST", "/memory/query", query, "blue")).json()["results"]) == 1
        assert (await send(api, "GET", "/v1/stats", None, "green")).json()["memories"] == 0
        assert (await send(api, "GET", memory, None, "blue")).json()["text"] == "Blue's secret."


async def held_in(world: World, namespace: str, model: str) -> Any:
    """A Provider of a namespace whose change to 128 dimensions waits."""
    world.cluster.served.add(namespace)
    spec = {"type": "mock", "model": model, "embedding": {"dimensions": 64}}
    ref = world.cluster.apply("memory", spec, namespace)
    await world.until_phase(ref, "Ready")
    world.cluster.apply("memory", {**spec, "embedding": {"dimensions": 128}}, namespace)
    await world.until_phase(ref, "Held")
    return ref


async def test_consent_needs_the_right_in_the_namespace_of_the_held_provider(world: World) -> None:
    server = ApiServer()
    server.user("blue", "blue-admin")
    server.user("green", "green-admin")
    server.user("root", "cluster-admin")
    server.allow("blue-admin", CONSENT, "blue")
    server.allow("green-admin", CONSENT, "green")
    server.allow("cluster-admin", CONSENT, None)
    await world.stored(3)
    async with world.operator(), world.worker(), serve(world, server.auth()) as api:
        ref = await held_in(world, "blue", "a")
        body: dict[str, Any] = {"target_dim": 128}
        problem = refused(await send(api, "POST", CONSENT_PATH, body, "green"), 403, "forbidden")
        assert "create providers/consent in namespace blue" in problem["detail"]
        refused(await send(api, "POST", CONSENT_PATH, {**body, "provider": "blue/memory"}, "green"), 403)
        # Where nothing is held at it a marker is for the only Provider that there is.
        problem = refused(await send(api, "POST", CONSENT_PATH, {"target_dim": 256}, "green"), 403)
        assert "in namespace blue" in problem["detail"]
        assert (await send(api, "POST", CONSENT_PATH, {"target_dim": 256}, "blue")).status_code == 200
        assert await world.value("select provider from memory_embedding_dim_change_consent") == "blue/memory"
        assert await world.value("select count(*) from memory_vectors_1") == 3
        # Both are held at 128 then, and consent to the one is none to the other.
        await held_in(world, "green", "b")
        refused(await send(api, "POST", CONSENT_PATH, body, "blue"), 403)
        refused(await send(api, "POST", CONSENT_PATH, body, "root"), 409, "ambiguous_provider")
        recorded = await send(api, "POST", CONSENT_PATH, {**body, "provider": "blue/memory"}, "blue")
        assert recorded.json()["matches_held_change"] is True
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 128, "dimension 128 is applied")


async def test_a_marker_is_withdrawn_by_whoever_could_have_recorded_it(world: World) -> None:
    server = ApiServer()
    server.user("blue", "blue-admin")
    server.user("root", "cluster-admin")
    server.allow("blue-admin", CONSENT, "blue")
    server.allow("cluster-admin", CONSENT, None)
    async with serve(world, server.auth()) as api:
        refused(await send(api, "POST", CONSENT_PATH, {"target_dim": 5}, "blue"), 403)
        refused(await send(api, "POST", CONSENT_PATH, {"target_dim": 5}, "root"), 409, "no_provider")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (5)")
        body = {"target_dim": 5, "provider": "blue/memory"}
        assert (await send(api, "POST", CONSENT_PATH, body, "root")).status_code == 200
        refused(await send(api, "DELETE", f"{CONSENT_PATH}/1", None, "blue"), 403)
        assert (await send(api, "DELETE", f"{CONSENT_PATH}/2", None, "blue")).status_code == 204


async def test_looking_shows_the_spaces_of_the_namespaces_where_one_may_get_providers(world: World) -> None:
    server = ApiServer()
    for token in ("blue", "root", "nobody"):
        server.user(token, f"{token}-user")
    server.allow("blue-user", READ, "blue")
    server.allow("blue-user", JOBS, "blue")
    server.allow("root-user", READ, None)
    await world.stored(3)
    async with world.operator(), world.worker(), serve(world, server.auth()) as api:
        await held_in(world, "blue", "a")
        green = await held_in(world, "green", "b")
        for token, seen in (("blue", ["blue/memory"]), ("root", ["blue/memory", "green/memory"])):
            spaces = (await send(api, "GET", "/v1/embeddings/spaces", None, token)).json()["spaces"]
            assert [space["provider"] for space in spaces] == seen
            status = (await send(api, "GET", "/v1/embeddings/status", None, token)).json()
            assert [change["provider"] for change in status["held"]] == seen
            assert len(status["jobs"]) == len(seen)
            held = (await send(api, "GET", CONSENT_PATH, None, token)).json()["held"]
            assert [change["provider"] for change in held] == seen
        for path in ("/v1/embeddings/spaces", "/v1/embeddings/status", "/v1/jobs", CONSENT_PATH, "/activity"):
            refused(await send(api, "GET", path, None, "nobody"), 403)
        refused(await send(api, "GET", "/activity", None, "blue"), 403)
        assert (await send(api, "GET", "/activity", None, "root")).json()["activities"]
        # One prunes what is one's own.
        world.cluster.delete(green)

        async def orphaned() -> bool:
            spaces = (await send(api, "GET", "/v1/embeddings/spaces", None, "root")).json()["spaces"]
            return "orphaned" in [space["state"] for space in spaces]

        await until(orphaned, "the space is orphaned")
        assert (await send(api, "POST", "/v1/prune-embeddings", {}, "blue")).json()["spaces"] == []
        refused(await send(api, "POST", "/v1/prune-embeddings", {}, "nobody"), 403)
        server.allow("blue-user", JOBS, "green")
        server.now += 60
        pruned = (await send(api, "POST", "/v1/prune-embeddings", {}, "blue")).json()["spaces"]
        assert [space["provider"] for space in pruned] == ["green/memory"]


async def test_activation_needs_the_right_in_the_namespace_of_the_provider(world: World) -> None:
    server = ApiServer()
    server.user("blue", "blue-admin")
    server.allow("blue-admin", ACTIVATE, "default")
    async with world.operator(), world.worker(), serve(world, server.auth()) as api:
        ref = world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}})
        await world.until_phase(ref, "Ready")
        for body in ({"embedding_version": "mock-64-1"}, {"provider": "default/memory"}):
            assert (await send(api, "POST", "/v1/embeddings/activate", body, "blue")).status_code == 200
        assert (await send(api, "POST", "/v1/embeddings/deactivate", {}, "blue")).status_code == 200
        refused(await send(api, "POST", "/v1/embeddings/activate", {"provider": "other/memory"}, "blue"), 403)
        # Nothing is active any more, so there is no namespace that it could be a matter of.
        refused(await send(api, "POST", "/v1/embeddings/deactivate", {}, "blue"), 403)


@pytest.mark.parametrize("token", ["blue", "stranger"])
async def test_an_api_server_that_is_down_is_told_as_such(world: World, token: str) -> None:
    server = ApiServer()
    server.user("blue", "system:serviceaccount:blue:agent")
    server.down = True
    async with serve(world, server.auth()) as api:
        answer = await send(api, "POST", "/memory/add", {"text": "a"}, token)
        refused(answer, 503, "unavailable")
        assert answer.headers["retry-after"]
        server.down = False
        assert (await send(api, "POST", "/memory/add", {"text": "a"}, token)).status_code in (401, 403)
