"""The gate while other Providers are in trouble, and a switch while memories are written."""

from __future__ import annotations

import asyncio
import itertools
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np

from bench.figures import Figure, at_most, exactly, told
from bench.http_load import Answers, Connection
from bench.proc import OwnProcess
from bench.stock import Stock
from fixtures.dev import free_port
from fixtures.engine import World, open_world
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.dev.postgres.server import RunningPostgres
from vendor.script import Fault
from vendor.stub import VendorProcess

DEAD = 50
TRIES = 20
GATE_TARGET_SECONDS = 1.0
RATES = (5, 20, 50)
SLOW_MS = 700
CHUNKS = 2_000
"""Stored before."""
READY_TARGET_SECONDS = 5.0
SWITCH_SECONDS = 300.0

_RESHAPED = "select exists (select from memory_embedding_spaces where dimensions = $1)"
_CONSENT = "insert into memory_embedding_dim_change_consent (target_dim) values ($1)"
_EXHAUSTED = """
select j.state <> 'running' or not exists (select from memory_reembed_leases l where l.job_id = j.id)
from memory_reembed_jobs j join memory_embedding_spaces s on s.id = j.space_id
where s.provider_name = 'memory' and s.config->>'model' = $1 order by j.id limit 1
"""
_READY_AT = """
select extract(epoch from state_changed_at)::float8 from memory_embedding_spaces
where config->>'model' = $1 and state = 'ready'
"""
_ACTIVE = """
select exists (select from memory_registry r join memory_embedding_spaces s on s.id = r.active_space_id
where s.config->>'model' = $1)
"""


async def run(server: RunningPostgres) -> list[Figure]:
    """Each on a database of its own."""
    stock = Stock(server)
    async with stock.of(CHUNKS) as dsn:
        figures = await _beside_dead_vendors(dsn)
    async with stock.of(CHUNKS) as dsn:
        return figures + await _while_memories_are_written(dsn)


async def _beside_dead_vendors(dsn: str) -> list[Figure]:
    """Edits and consents of one Provider, alone and beside 50 whose vendors refuse, never answer, or answer 500."""
    with ExitStack() as stack:
        live = stack.enter_context(VendorProcess(64, fast=True))
        hanging, failing = (stack.enter_context(VendorProcess(64)) for _ in range(2))
        hanging.set(fault=Fault(hold=True))
        failing.set(fault=Fault(status=500))
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))
        urls = [hanging.base_url, failing.base_url, f"http://127.0.0.1:{refusing.getsockname()[1]}/v1"]
        async with open_world(dsn) as world, world.operator(), world.worker():
            ref = _apply(world, "memory", live.base_url, 64)
            await world.until_phase(ref, "Ready")
            held_alone, applied_alone = await _changes(world, ref, live.base_url)
            for number, url in zip(range(DEAD), itertools.cycle(urls), strict=False):
                _apply(world, f"dead-{number}", url, 32)
            held, applied = await _changes(world, ref, live.base_url)
    beside = f"beside {DEAD} Providers with dead vendors"
    return [
        *_of_tries("edit to held", held_alone),
        *_of_tries("consent to applied", applied_alone),
        *_of_tries(f"edit to held, {beside}", held),
        told(f"edit to held, {beside}: p50, of that alone", float(np.median(held) / np.median(held_alone))),
        *_of_tries(f"consent to applied, {beside}", applied),
        told(f"consent to applied, {beside}: p50, of that alone", float(np.median(applied) / np.median(applied_alone))),
    ]


async def _changes(world: World, ref: ProviderRef, url: str) -> tuple[list[float], list[float]]:
    """Seconds from each of several edits until it is held, and from the consent's commit until it is applied."""
    held: list[float] = []
    applied: list[float] = []
    for dimensions in itertools.islice(itertools.cycle((128, 64)), TRIES):
        began = time.perf_counter()
        _apply(world, ref.name, url, dimensions)
        await world.until_phase(ref, "Held")
        held.append(time.perf_counter() - began)
        await world.fetch(_CONSENT, dimensions)
        began = time.perf_counter()
        await until(partial(world.value, _RESHAPED, dimensions), "the change is applied")
        applied.append(time.perf_counter() - began)
        await world.until_phase(ref, "Ready")
    return held, applied


def _of_tries(name: str, taken: list[float]) -> list[Figure]:
    return [
        told(f"{name}: p50 of {len(taken)}", float(np.median(taken)), "s"),
        at_most(f"{name}: longest of {len(taken)}", max(taken), "s", GATE_TARGET_SECONDS),
    ]


def _apply(world: World, name: str, url: str, dimensions: int, model: str = "one") -> ProviderRef:
    spec = {"type": "openai_compatible", "model": model, "baseURL": url, "embedding": {"dimensions": dimensions}}
    return world.cluster.apply(name, spec)


async def _while_memories_are_written(dsn: str) -> list[Figure]:
    """A switch to an embedder that takes 0.7 s a call, while memories are added over HTTP."""
    figures: list[Figure] = []
    port = free_port()
    with (
        VendorProcess(64, fast=True) as quick,
        VendorProcess(64, fast=True, latency_ms=SLOW_MS) as slow,
        tempfile.TemporaryDirectory() as folder,
    ):
        words = ("--host", "127.0.0.1", "--port", str(port), "--auth-mode", "none", "--namespaces", "default")
        async with open_world(dsn) as world, world.operator():
            with OwnProcess(Path(folder), dsn, "worker"), OwnProcess(Path(folder), dsn, "api", *words):
                ref = _apply(world, "memory", quick.base_url, 64)
                await world.until_phase(ref, "Ready")
                for rate in RATES:
                    figures += await _switch(world, port, rate, (quick, slow))
    return figures


async def _switch(world: World, port: int, rate: int, vendors: tuple[VendorProcess, VendorProcess]) -> list[Figure]:
    quick, slow = vendors
    model, name = f"slow-{rate}", f"switch beside {rate} adds a second, {SLOW_MS / 1000:g} s a call"
    async with _adding(port, rate) as adds:
        await until(lambda: len(adds.milliseconds) >= rate, "memories are added")
        before = len(adds.milliseconds)
        ref = _apply(world, "memory", slow.base_url, 64, model)
        await until(lambda: world.value(_EXHAUSTED, model), "the last range is filled", SWITCH_SECONDS)
        exhausted = time.time()
        ready = await until(lambda: world.value(_READY_AT, model), "the space is ready", SWITCH_SECONDS)
        flipped = await world.value(_ACTIVE, model)
        during = len(adds.milliseconds) - before
        at_flip = len(adds.milliseconds)
        await until(lambda: len(adds.milliseconds) >= at_flip + rate, "memories are still added")
    _apply(world, "memory", quick.base_url, 64, f"quick-after-{rate}")
    await until(lambda: world.value(_ACTIVE, f"quick-after-{rate}"), "the next space is active", SWITCH_SECONDS)
    await world.until_phase(ref, "Ready")
    return [
        at_most(f"{name}: last range to ready", max(0.0, ready - exhausted), "s", READY_TARGET_SECONDS),
        exactly(f"{name}: active once ready, while memories are added", float(flipped), "", 1),
        told(f"{name}: added meanwhile", during),
        told(f"{name}: adds, p50", adds.p50, "ms"),
        told(f"{name}: adds, p99", adds.p99, "ms"),
        exactly(f"{name}: adds not answered 201", adds.statuses.total() - adds.statuses[201], "", 0),
    ]


@asynccontextmanager
async def _adding(port: int, rate: int) -> AsyncIterator[Answers]:
    """Memories are added at a fixed rate, whatever becomes of those before."""
    adds, free, going = Answers(), [Connection(port, "")], True

    async def add(number: int) -> None:
        connection = free.pop() if free else Connection(port, "")
        since = time.perf_counter()
        status, _ = await connection.ask("POST", "/memory/add", {"text": f"added at {rate} a second, number {number}"})
        adds.add(status, b"{}", since)
        free.append(connection)

    async def keep_adding() -> None:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if not going:
                    return
                group.create_task(add(number), name=f"add {number}")
                await asyncio.sleep(max(0.0, start + (number + 1) / rate - time.perf_counter()))

    task = asyncio.create_task(keep_adding(), name="adding")
    try:
        yield adds
    finally:
        going = False
        await task
        for connection in free:
            connection.close()
