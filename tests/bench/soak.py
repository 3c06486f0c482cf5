"""Adds at a fixed rate for a while, with queries beside them, and a kill -9 of the API in the middle.

Percentiles are of what was asked while the API was there: what is due between the kill and the API's return is told
apart. Whoever gets no answer does not ask again, so that nothing may be stored twice.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.figures import Figure, at_most, exactly, told
from bench.http_load import Connection, ask_at_a_rate, for_seconds
from bench.measured import Scene
from bench.proc import OwnProcess
from bench.stock import PROJECT, TEXTS
from bench.texts import Writer, english, question
from bench.wrk import ADD, QUERY

QUERIES_PER_SECOND = 10
WORDS = 4
TIMES_IDLE = 3.0
ADDS_MS = 500.0
SAMPLE = 100
SETTLED_SECONDS = 300.0
_PAGE = 200


@dataclass
class _Outage:
    """When the API was away."""

    start: float = float("inf")
    end: float = float("inf")

    def has(self, due: float) -> bool:
        return self.start <= due <= self.end


@dataclass
class _Seen:
    """What became of the requests of one kind."""

    outage: _Outage
    times: list[float] = field(default_factory=list)
    """Milliseconds of those that were due while the API was there."""
    refused: int = 0
    """Of those, the ones that were not answered 200 or 201."""
    away: int = 0
    """Due while it was not there, or cut off by its end."""
    stored: dict[str, str] = field(default_factory=dict)
    """Acknowledged memories: id and text."""

    def note(self, body: Mapping[str, Any], due: float, status: int, answer: bytes) -> None:
        """See `ask_at_a_rate`."""
        if status == 201:
            self.stored[json.loads(answer)["id"]] = body["text"]
        if status == 0 or self.outage.has(due):
            self.away += 1
            return
        self.times.append(1000 * (time.perf_counter() - due))
        self.refused += status not in (200, 201)

    @property
    def p50(self) -> float:
        return float(np.median(self.times))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.times, 99))


async def run(scene: Scene, api: OwnProcess, port: int, per_second: float, seconds: int) -> list[Figure]:
    """Idle queries first; then both for so long; then what is there."""
    queries = await _queries(scene)
    idle_seconds = max(5.0, min(30.0, seconds / 3))
    idle = await ask_at_a_rate(port, "busy", queries, QUERIES_PER_SECOND, for_seconds(idle_seconds))
    outage = _Outage()
    adds, others = _Seen(outage), _Seen(outage)
    going = for_seconds(seconds)
    bodies = _bodies()
    async with asyncio.TaskGroup() as group:
        adding = group.create_task(
            ask_at_a_rate(port, "busy", bodies, per_second, going, path=ADD, seen=adds.note), name="adds"
        )
        querying = group.create_task(
            ask_at_a_rate(port, "busy", queries, QUERIES_PER_SECOND, going, seen=others.note), name="queries"
        )
        await asyncio.sleep(seconds / 2)
        outage.start = time.perf_counter()
        await asyncio.to_thread(api.kill)
        await asyncio.to_thread(api.__enter__)
        outage.end = time.perf_counter()
    added, queried = adding.result(), querying.result()
    what = f"{per_second:,.0f} adds/s for {seconds} s"
    return [
        told(f"{what}: idle queries before, p99", idle.p99, "ms"),
        told(f"{what}: queries, p50", others.p50, "ms"),
        told(f"{what}: queries, p99", others.p99, "ms"),
        at_most(f"{what}: queries, p99, of the idle ones'", others.p99 / idle.p99, "", TIMES_IDLE),
        told(f"{what}: adds, p50", adds.p50, "ms"),
        at_most(f"{what}: adds, p99", adds.p99, "ms", ADDS_MS),
        exactly(f"{what}: adds refused", adds.refused, "", 0),
        exactly(f"{what}: queries refused", others.refused, "", 0),
        exactly(f"{what}: queries incomplete", queried.incomplete, "", 0),
        told(f"{what}: adds stored without their vectors", added.incomplete),
        told(f"{what}: kill -9, away for", outage.end - outage.start, "s"),
        told(f"{what}: kill -9, requests without an answer", adds.away + others.away),
        *await _checked(scene, port, what, adds.stored),
    ]


def _bodies() -> Iterator[Mapping[str, Any]]:
    """Memories, each with a word that no other has."""
    writer = Writer(random.Random(11), english())
    return ({"text": f"{writer.texts(1)[0]} soak{number}", "project": PROJECT} for number in itertools.count())


async def _queries(scene: Scene) -> Iterator[Mapping[str, Any]]:
    choose = random.Random(7)
    texts = [row["text"] for row in await scene.world.fetch(f"select text from {TEXTS} where id % 97 = 0")]
    return (
        {"query": question(choose.choice(texts), choose, WORDS), "project": PROJECT, "k": 10} for _ in itertools.count()
    )


async def _checked(scene: Scene, port: int, what: str, stored: Mapping[str, str]) -> list[Figure]:
    """Each acknowledged memory is there, once, and is found; counted by what the API lists."""
    connection = Connection(port, "busy")
    listed, texts = Counter[str](), Counter[str]()
    async for memory in _listed(connection):
        listed[memory["id"]] += 1
        texts[memory["text"]] += 1
    pending = "select count(*) from memory_embedding_pending"
    await _until_zero(lambda: scene.world.value(pending))
    sample = random.Random(1).sample(sorted(stored), min(SAMPLE, len(stored)))
    missed, doubled = 0, 0
    for id_ in sample:
        wanted = {"query": stored[id_], "project": PROJECT, "k": 10, "channels": ["semantic"], "fold": False}
        status, answer = await connection.ask("POST", QUERY, wanted)
        found = Counter(result["id"] for result in json.loads(answer)["results"]) if status == 200 else Counter[str]()
        missed += found[id_] == 0
        doubled += any(times > 1 for times in found.values())
    connection.close()
    return [
        told(f"{what}: adds acknowledged", len(stored)),
        told(f"{what}: stored, and not acknowledged", len(listed.keys() - stored.keys())),
        exactly(f"{what}: acknowledged and lost", len(stored.keys() - listed.keys()), "", 0),
        exactly(f"{what}: stored twice", sum(times - 1 for times in texts.values()), "", 0),
        exactly(f"{what}: of {len(sample)}, not found by their meaning", missed, "", 0),
        exactly(f"{what}: of {len(sample)}, answers with a memory twice", doubled, "", 0),
    ]


async def _listed(connection: Connection) -> Any:
    """The memories of this run, newest first: those before them have no text."""
    before = ""
    while True:
        status, answer = await connection.ask("GET", f"/v1/memories?limit={_PAGE}{before}")
        assert status == 200, answer
        page = json.loads(answer)
        own = [memory for memory in page["memories"] if " soak" in (memory["text"] or "")]
        for memory in own:
            yield memory
        if page["next_before"] is None or not own:
            return
        before = f"&before={page['next_before']}"


async def _until_zero(count: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SETTLED_SECONDS
    while await count():
        assert time.monotonic() < deadline, "memories wait for their vectors for too long"
        await asyncio.sleep(0.5)
