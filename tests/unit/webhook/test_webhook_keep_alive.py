"""How long a connection may be idle after a request: longer than the API server keeps one, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fixtures.waiting import ends, until
from memory_webhook.connections import Connections
from memory_webhook.main import KEEP_ALIVE_SECONDS, listening, server_of
from memory_webhook.metrics import WebhookMetrics
from memory_webhook.probes import probe_app

API_SERVER_KEEPS_SECONDS = 90
REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(keep_alive_seconds: int) -> AsyncIterator[int]:
    """The server of the webhook's probes, with another limit; its port."""
    server = server_of(probe_app(WebhookMetrics(), lambda: None), keep_alive_seconds)
    with listening("127.0.0.1", 0) as door:
        serve = asyncio.create_task(server.serve([]))
        accept = asyncio.create_task(Connections(server, None).accept(door))
        try:
            await until(lambda: server.started, "the server has started")
            yield door.getsockname()[1]
        finally:
            accept.cancel()
            server.should_exit = True
            await ends(serve, "the end of the server")


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The head of the next answer, with its body read."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head


async def test_a_connection_that_is_idle_after_a_finished_request_is_closed_after_its_limit() -> None:
    async with serving(1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(REQUEST)
            head = await answer(reader)
            assert head.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in head.lower()
        await until(reader.at_eof, "the server closes the idle connection")
        writer.close()


def test_the_webhook_keeps_an_idle_connection_for_longer_than_the_api_server_does() -> None:
    server = server_of(probe_app(WebhookMetrics(), lambda: None))
    assert server.config.timeout_keep_alive == KEEP_ALIVE_SECONDS
    assert API_SERVER_KEEPS_SECONDS < KEEP_ALIVE_SECONDS <= 600
