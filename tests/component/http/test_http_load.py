"""Many callers at once: nobody's slowness is everybody's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from fixtures.api import HOST, Api, serve
from fixtures.engine import World
from memory_operator.http.auth.tokens import token_auth
from memory_operator.http.serve import REQUESTS_PER_CONNECTION

STALLED = b"POST /memory/add HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer slow\r\nContent-Length: 900\r\n\r\n{"


async def test_callers_that_send_their_bodies_slowly_keep_nobody_waiting(world: World, tmp_path: Path) -> None:
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": name, "rights": ["memories:get"]}
        for name in ("slow", "quick")
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps([each | {"rights": ["memories:get", "memories:create"]} for each in entries]))
    async with serve(world, token_auth(file), authorization="Bearer quick") as api, AsyncExitStack() as stack:
        for _ in range(2 * REQUESTS_PER_CONNECTION * world.store.pool_size):
            _, writer = await asyncio.open_connection(HOST, api.port)
            stack.callback(writer.close)
            writer.write(STALLED)
            await writer.drain()
        assert (await api.get("/livez")).status_code == 200
        assert (await api.get("/v1/stats")).status_code == 200
        assert (await api.post("/memory/add", {"text": "quick"})).status_code == 201


async def test_32_clients_that_query_at_once_get_whole_answers(world: World, api: Api) -> None:
    async with world.operator(), world.worker():
        await world.until_phase(
            world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}}), "Ready"
        )
        for number in range(40):
            await api.post("/memory/add", {"text": f"the {number}th thing to be found"})

        async def client() -> list[httpx.Response]:
            return [await api.post("/memory/query", {"query": "a thing"}) for _ in range(5)]

        for answers in await asyncio.gather(*(client() for _ in range(32))):
            for answer in answers:
                assert answer.status_code == 200, answer.text
                channels = answer.json()["diagnostics"]["channels"]
                assert {channel["status"] for channel in channels.values()} == {"ok"}, channels
