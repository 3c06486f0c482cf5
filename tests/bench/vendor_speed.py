"""How fast the stub vendor itself is, asked by a client that only counts bytes: nothing may be measured above this."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import urlsplit

from bench.figures import Figure, told
from bench.proc import cpu_seconds
from vendor.stub import VendorProcess

TEXTS_A_CALL = 128
CALLS = 400
CONNECTIONS = 8


async def run(dimensions: int) -> list[Figure]:
    """Texts a second and CPU a text of the stub vendor, for each way to write vectors."""
    figures = []
    with VendorProcess(dimensions, fast=True) as vendor:
        for name, encoding in (("base64", "base64"), ("JSON floats", "float")):
            await _calls(vendor, encoding, CONNECTIONS)
            cpu, started = cpu_seconds(vendor.pid), time.perf_counter()
            await _calls(vendor, encoding, CALLS)
            seconds, cpu = time.perf_counter() - started, cpu_seconds(vendor.pid) - cpu
            texts = CALLS * TEXTS_A_CALL
            figures.append(told(f"stub vendor alone, {name}", texts / seconds, "texts/s"))
            figures.append(told(f"stub vendor alone, {name}: CPU", 1000 * cpu / texts, "ms/text"))
    return figures


async def _calls(vendor: VendorProcess, encoding: str, calls: int) -> None:
    texts = [
        f"memory number {number} of a bench, as long as a sentence that is noted down" for number in range(TEXTS_A_CALL)
    ]
    body = json.dumps({"model": "raw", "input": texts, "encoding_format": encoding}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: vendor\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    left = iter(range(calls))
    port = urlsplit(vendor.root_url).port

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        for _ in left:
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
