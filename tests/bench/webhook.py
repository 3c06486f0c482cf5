"""The admission webhook: how long a review takes under load over TLS, and what the process weighs then."""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.proc import peak_memory_mb
from fixtures.certificates import self_signed
from fixtures.webhook import REVIEW_PATH, WebhookProcess, provider, review, write_pair

Figure = dict[str, Any]

RATE_PER_SECOND = 500
SECONDS = 20
WARM_UP_SECONDS = 2
CONNECTIONS = 16
P99_TARGET_MS = 10.0
MEMORY_TARGET_MB = 60.0


def run() -> list[Figure]:
    """Review latency at a fixed rate, from the moment that each request was due, and peak memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pair(folder, self_signed())
        with WebhookProcess(folder) as webhook:
            asyncio.run(_load(webhook, WARM_UP_SECONDS))
            milliseconds = 1000 * np.array(asyncio.run(_load(webhook, SECONDS)))
            memory = peak_memory_mb(webhook.process.pid)
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return [
        _figure(f"webhook, review p50 at {RATE_PER_SECOND} requests/s", float(p50), "ms", None),
        _figure(f"webhook, review p99 at {RATE_PER_SECOND} requests/s", float(p99), "ms", P99_TARGET_MS),
        _figure("webhook, peak memory", memory, "MB", MEMORY_TARGET_MB),
    ]


def _figure(name: str, value: float, unit: str, most: float | None) -> Figure:
    holds = None if most is None else value <= most
    return {"name": name, "value": round(value, 2), "unit": unit, "target": most, "holds": holds}


async def _load(webhook: WebhookProcess, seconds: int) -> list[float]:
    """Seconds that each review took at RATE_PER_SECOND, spread over CONNECTIONS."""
    body = review(provider(embedding={"dimensions": 1536}), provider(embedding={"dimensions": 768}))
    head = f"POST {REVIEW_PATH} HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    context = ssl.create_default_context(cadata=webhook.certificate.read_text())
    start = time.perf_counter() + 0.2
    due = [start + i / RATE_PER_SECOND for i in range(seconds * RATE_PER_SECOND)]
    async with asyncio.TaskGroup() as group:
        clients = [
            group.create_task(_client(webhook.port, context, request, due[i::CONNECTIONS]), name=f"client {i}")
            for i in range(CONNECTIONS)
        ]
    return [took for client in clients for took in client.result()]


async def _client(port: int, context: ssl.SSLContext, request: bytes, due: list[float]) -> list[float]:
    """Send the request at each moment that it is due, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    took = []
    try:
        for moment in due:
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            took.append(time.perf_counter() - moment)
            assert head.startswith(b"HTTP/1.1 200")
            assert b'"warnings"' in answer
    finally:
        writer.close()
        await writer.wait_closed()
    return took


if __name__ == "__main__":
    for figure in run():
        print(figure, file=sys.stderr)
