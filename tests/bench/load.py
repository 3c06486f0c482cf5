"""Many clients of one API at once: that query, that take their time, that are one tenant's beside another's."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from bench.figures import Figure, at_most, exactly, told
from bench.http_load import (
    Answers,
    Connection,
    ask_all_the_time,
    ask_at_a_rate,
    for_seconds,
    probe_all_the_time,
    stalled,
)
from bench.measured import Scene, open_scene
from bench.proc import OwnProcess
from bench.speeds import speed
from bench.stock import PROJECT, TENANT, TEXTS, Stock
from bench.wrk import ABSENT, Load, Wrk, is_there
from fixtures.dev import free_port
from memory_operator.dev.postgres.server import RunningPostgres

CHUNKS = 20_000
DIMENSIONS = 64
SECONDS = 12.0
"""Longer than a head may take to arrive, so that slow clients are met when they come again."""
WARM_UP_SECONDS = 2.0
CLIENTS = 32
BUSY_CLIENTS = 64
SLOW_CLIENTS = 64
RATE_PER_SECOND = 10
OWN_MEMORIES = 100
"""Of the tenant with one client."""
TIMES = 5.0
"""A client beside slow ones waits at most so many times as long as alone: they cost accepting and closing."""

TIMES_BESIDE = 2.0
"""The p99 of one tenant beside a busy one is at most so many times its own."""

HALF_HEAD = b"POST /memory/query HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthor"
ONE_BYTE = (
    b"POST /memory/query HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer slow\r\n"
    b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
)


async def run(server: RunningPostgres) -> list[Figure]:
    """Figures of an API under load."""
    stock, port = Stock(server), free_port()
    async with stock.of(CHUNKS) as dsn, open_scene(dsn, server.pid, latency_ms=0) as scene:
        with scene.worker():
            await scene.serve("served", CHUNKS, DIMENSIONS)
        bodies = await _bodies(scene)
        with serve_api(scene, port) as api:
            await ask_all_the_time(port, "busy", bodies, 4, for_seconds(WARM_UP_SECONDS))
            figures = await _many_clients(port, bodies)
            if is_there():
                figures += await _two_tenants(scene, port, bodies)
            else:
                print(ABSENT, file=sys.stderr)
            figures += await _slow_clients(port, api.probe_port, bodies)
    return figures


def serve_api(scene: Scene, port: int) -> OwnProcess:
    """An API of its own, for callers with the tokens busy, slow and single."""
    rights = ["memories:get", "memories:create"]
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": tenant, "rights": rights}
        for name, tenant in (("busy", TENANT), ("slow", "slow"), ("single", "single"))
    ]
    tokens = scene.folder / "tokens.json"
    tokens.write_text(json.dumps(entries))
    words = ("--host", "127.0.0.1", "--port", str(port), "--auth-mode", "tokens", "--tokens-file", str(tokens))
    return OwnProcess(scene.folder, scene.world.dsn, "api", *words, "--namespaces", "default")


async def _bodies(scene: Scene) -> Iterator[Mapping[str, Any]]:
    """Queries of four words of a memory each, without end."""
    choose = random.Random(7)
    texts = [row["text"] for row in await scene.world.fetch(f"select text from {TEXTS} where id % 97 = 0")]
    return (
        {"query": " ".join(choose.sample(choose.choice(texts).split(), 4)), "project": PROJECT, "k": 10}
        for _ in itertools.count()
    )


def _speed(name: str, answers: Answers) -> list[Figure]:
    return [
        told(f"{name}: p50", answers.p50, "ms"),
        told(f"{name}: p99", answers.p99, "ms"),
        exactly(f"{name}: refused", answers.refused, "", 0),
        exactly(f"{name}: incomplete", answers.incomplete, "", 0),
    ]


async def _many_clients(port: int, bodies: Iterator[Mapping[str, Any]]) -> list[Figure]:
    one = await ask_all_the_time(port, "busy", bodies, 1, for_seconds(SECONDS))
    many = await ask_all_the_time(port, "busy", bodies, CLIENTS, for_seconds(SECONDS))
    name = f"{CLIENTS} clients that query"
    return [
        told("one client that queries: queries", one.rate, "1/s"),
        *_speed("one client that queries", one),
        told(f"{name}: queries", many.rate, "1/s"),
        *_speed(name, many),
        told(f"{name}: p99, of their p50", many.p99 / many.p50),
    ]


async def _two_tenants(scene: Scene, port: int, bodies: Iterator[Mapping[str, Any]]) -> list[Figure]:
    """One client of a tenant, alone and beside the many of another, who are no Python: both share two cores."""
    single = Connection(port, "single")
    for number in range(OWN_MEMORIES):
        status, answer = await single.ask(
            "POST", "/memory/add", {"text": f"number {number} of {next(bodies)['query']}"}
        )
        assert status == 201, answer
    own = ({"query": "a number", "k": 10} for _ in itertools.count())
    busy = Wrk(scene.folder, port, "busy", [json.dumps(next(bodies)) for _ in range(1_000)])
    alone = await ask_all_the_time(port, "single", own, 1, for_seconds(SECONDS))
    beside, others = dict[int, Answers](), dict[int, Load]()
    for clients in (1, BUSY_CLIENTS):
        task = asyncio.create_task(asyncio.to_thread(busy.ask, clients, SECONDS + 2), name="the busy tenant")
        await asyncio.sleep(1)
        beside[clients] = await ask_all_the_time(port, "single", own, 1, for_seconds(SECONDS))
        others[clients] = await task
    name, one, many = f"one client beside {BUSY_CLIENTS} of another tenant", beside[1], beside[BUSY_CLIENTS]
    return [
        *_speed("one client of a small tenant, alone", alone),
        *_speed("one client beside 1 of another tenant", one),
        *_speed(name, many),
        told(f"{name}: p50, of that alone", many.p50 / alone.p50),
        at_most(f"{name}: p99, of that alone", many.p99 / alone.p99, "", TIMES_BESIDE),
        told(f"{name}: p99, of that beside 1", many.p99 / one.p99),
        at_most(f"{name}: p50, of those others'", many.p50 / others[BUSY_CLIENTS].p50, "", 0.5),
        *speed(f"the {BUSY_CLIENTS} others", others[BUSY_CLIENTS], "queries"),
    ]


async def _slow_clients(port: int, probe_port: int, bodies: Iterator[Mapping[str, Any]]) -> list[Figure]:
    """A client beside those that send half a head, and those that send one byte of a body."""
    alone = await ask_at_a_rate(port, "busy", bodies, RATE_PER_SECOND, for_seconds(SECONDS))
    figures = _speed("a client at ten queries a second, alone", alone)
    for kind, part in (("half a head", HALF_HEAD), ("one byte of a body", ONE_BYTE)):
        async with stalled(port, part, SLOW_CLIENTS) as met:
            going = for_seconds(SECONDS)
            probes = asyncio.create_task(probe_all_the_time(probe_port, going), name="probes")
            beside = await ask_at_a_rate(port, "busy", bodies, RATE_PER_SECOND, going)
            probed = await probes
        name = f"the same beside {SLOW_CLIENTS} that send {kind}"
        figures += [
            *_speed(name, beside),
            at_most(f"{name}: p50, of that alone", beside.p50 / alone.p50, "", TIMES),
            exactly(f"{name}: probes not answered 200", probed.refused, "", 0),
            told(f"{name}: slowest probe", max(probed.milliseconds), "ms"),
            told(f"{name}: of those told 408", met["408"]),
            told(f"{name}: of those cut off", met["cut"]),
        ]
    return figures
