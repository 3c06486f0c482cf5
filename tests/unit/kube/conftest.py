"""An API server reduced to what it answers: the outermost seam of kube/."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

ScriptedAnswer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StubApiServer:
    """Answers every request with `answer`, and remembers what was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, Any]] = []
        self.hang = False
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path_qs, dict(request.headers), body))
        if self.hang:
            await asyncio.sleep(30)
        status, reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(reply, str):
            return web.Response(status=status, text=reply)
        return web.json_response(reply, status=status)

    def kubeconfig(self, folder: Path, **user: str) -> Path:
        """A kubeconfig that leads here."""
        identity = user or {"token": "stub-token"}
        lines = [
            "apiVersion: v1",
            "kind: Config",
            "current-context: here",
            "contexts: [{name: here, context: {cluster: here, user: me, namespace: agents}}]",
            f"clusters: [{{name: here, cluster: {{server: '{self.url}'}}}}]",
            f"users: [{{name: me, user: {identity}}}]",
        ]
        path = folder / "kubeconfig"
        path.write_text("\n".join(lines))
        return path


@pytest.fixture
async def api_server() -> AsyncIterator[StubApiServer]:
    stub = StubApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.handle)
    server = TestServer(app)
    await server.start_server()
    stub.url = str(server.make_url("")).rstrip("/")
    yield stub
    await server.close()
