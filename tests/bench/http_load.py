"""Clients of an API that cost little themselves: what asks shares the machine with what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HOST = "127.0.0.1"
ANSWER_SECONDS = 60.0


class Connection:
    """One connection that is kept open for request after request."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = f"Host: {HOST}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        if self._streams is None or self._streams[0].at_eof():  # the server closes what was idle for long
            self.close()
            self._streams = await asyncio.open_connection(HOST, self._port, limit=1 << 22)
        reader, writer = self._streams
        sent = b"" if body is None else json.dumps(body).encode()
        writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        async with asyncio.timeout(ANSWER_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), answer

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(slots=True)
class Answers:
    """What became of requests."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    incomplete: int = 0
    """Queries answered 200 of which a channel did not answer; memories stored without their vectors."""
    broken: int = 0
    """Requests that were not answered at all: the server went away."""
    seconds: float = 0.0
    """How long was asked."""

    @property
    def p50(self) -> float:
        """Milliseconds."""
        return float(np.median(self.milliseconds))

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return float(np.percentile(self.milliseconds, 99))

    @property
    def refused(self) -> int:
        """Requests that were answered neither 200 nor 201."""
        return self.statuses.total() - self.statuses[200] - self.statuses[201]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds

    def add(self, status: int, answer: bytes, since: float) -> None:
        """Note one answer, and whether it is whole."""
        self.milliseconds.append(1000 * (time.perf_counter() - since))
        self.statuses[status] += 1
        if status == 200 and (channels := json.loads(answer).get("diagnostics", {}).get("channels")):
            self.incomplete += any(channel["status"] != "ok" for channel in channels.values())
        if status == 201:
            self.incomplete += json.loads(answer).get("embedding_status") == "pending"


Going = Callable[[], bool]
"""Whether to go on."""


def for_seconds(seconds: float) -> Going:
    """Go on for so long."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


async def ask_all_the_time(
    port: int, token: str, bodies: Iterator[Mapping[str, Any]], clients: int, going: Going
) -> Answers:
    """So many clients that query, each the next thing as soon as it was answered."""
    answers, began = Answers(), time.perf_counter()

    async def client() -> None:
        connection = Connection(port, token)
        while going():
            since = time.perf_counter()
            answers.add(*await connection.ask("POST", "/memory/query", next(bodies)), since)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    answers.seconds = time.perf_counter() - began
    return answers


Seen = Callable[[Mapping[str, Any], float, int, bytes], None]
"""Called with each request, when it was due, its status and its answer; 0 and nothing where none came."""


async def ask_at_a_rate(
    port: int,
    token: str,
    bodies: Iterator[Mapping[str, Any]],
    per_second: float,
    going: Going,
    *,
    path: str = "/memory/query",
    seen: Seen | None = None,
) -> Answers:
    """Requests at a fixed rate, whether or not those before were answered; each counts from when it was due."""
    answers, start, free = Answers(), time.perf_counter(), [Connection(port, token)]

    async def one(due: float, body: Mapping[str, Any]) -> None:
        connection = free.pop() if free else Connection(port, token)
        try:
            status, answer = await connection.ask("POST", path, body)
        except (OSError, EOFError):
            connection.close()
            answers.broken += 1
            status, answer = 0, b""
        else:
            answers.add(status, answer, due)
            free.append(connection)
        if seen is not None:
            seen(body, due, status, answer)

    async with asyncio.TaskGroup() as group:
        number = 0
        while going():
            due = start + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due, next(bodies)), name=f"request {number}")
            number += 1
    for connection in free:
        connection.close()
    answers.seconds = time.perf_counter() - start
    return answers


async def probe_all_the_time(port: int, going: Going) -> Answers:
    """Ask for /livez and /readyz in turn, ten times a second."""
    answers = Answers()
    number = 0
    while going():
        since, connection = time.perf_counter(), Connection(port, "")
        status, _ = await connection.ask("GET", ("/livez", "/readyz")[number % 2])
        answers.add(status, b"{}", since)
        connection.close()
        number += 1
        await asyncio.sleep(0.1)
    return answers


@asynccontextmanager
async def stalled(port: int, request: bytes, clients: int) -> AsyncIterator[Counter[str]]:
    """So many clients that send a part of a request and then nothing, again as soon as they are cut off.

    Gives what they were answered, counted: a status, or "cut".
    """
    met: Counter[str] = Counter()

    async def client() -> None:
        while True:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(request)
            answer = await reader.read(1 << 16)
            met[answer[9:12].decode() or "cut"] += 1
            writer.close()

    tasks = [asyncio.create_task(client(), name=f"slow client {number}") for number in range(clients)]
    try:
        yield met
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
