"""What a fill takes: real processes, defaults only; the raw ceiling beside it, taken on the same database."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench import fill_index, fill_query, peer, vendor_speed
from bench.figures import Figure, at_least, at_most, exactly, told
from bench.measured import DIMENSIONS, Filled, Scene, ceiling, open_scene
from bench.stock import Stock
from memory_operator.dev.postgres.server import RunningPostgres

CHUNKS = 20_000
KILL_CHUNKS = 100_000
LARGE_CHUNKS = 1_000_000
KILL_AT = 0.4
POISON = " zzpoisonzz"


@dataclass(frozen=True, slots=True)
class Speed:
    """A scenario of speed and what is promised of it."""

    name: str
    latency_ms: float
    base64: bool
    rows_per_second: float
    share_of_ceiling: float | None = None
    with_index: bool = False
    raw_calls_at_once: tuple[int, ...] = (16, 32)


SPEEDS = {
    "base64": Speed("base64, 20 ms a call", 20, True, 10_000, 0.4, with_index=True),
    "floats": Speed("JSON floats, 20 ms a call", 20, False, 8_000, 0.6),
    "slow": Speed("base64, 200 ms a call", 200, True, 6_000, raw_calls_at_once=(32, 64)),
}


@dataclass(slots=True)
class Measuring:
    """What scenarios share: the server, the databases, what others measured before."""

    server: RunningPostgres
    stock: Stock
    base64: Filled | None = None


async def run(
    server: RunningPostgres, large: bool, scenarios: Sequence[str], peer_python: str | None = None
) -> list[Figure]:
    """Figures of the scenarios named, of all but `large` where none is; with `large` of that too.

    With `peer_python` also those of the peer that this Python has.
    """
    bench = Measuring(server, Stock(server))
    names = list(scenarios) or [name for name in SCENARIOS if name != "large"]
    if large and "large" not in names:
        names.append("large")
    if "large" in names and "base64" not in names:
        names.insert(0, "base64")
    figures: list[Figure] = []
    for name in names:
        print(f"  fill: {name} …", file=sys.stderr)
        await bench.stock.settle()
        figures += await SCENARIOS[name](bench)
    if peer_python is not None:
        figures += await peer.run(server, bench.stock, peer_python)
    return figures


def _speed(name: str) -> Callable[[Measuring], Awaitable[list[Figure]]]:
    async def measure(bench: Measuring) -> list[Figure]:
        speed = SPEEDS[name]
        async with bench.stock.of(CHUNKS) as dsn:
            habits: dict[str, Any] = {"latency_ms": speed.latency_ms, "refuse_base64": not speed.base64}
            async with open_scene(dsn, bench.server.pid, **habits) as scene:
                with scene.worker() as worker:
                    filled = await scene.fill(worker, "bench", CHUNKS)
                    index = await scene.until_ready("bench") if speed.with_index else None
                await bench.stock.end_workers(dsn)
                figures = _of_a_fill(speed, filled, index)
                figures += await _beside_the_ceiling(scene, speed, filled)
        if name == "base64":
            bench.base64 = filled
        return figures

    return measure


def _of_a_fill(speed: Speed, filled: Filled, index_seconds: float | None) -> list[Figure]:
    name, ms = speed.name, 1000 / filled.rows
    ours = (filled.worker_cpu_seconds + filled.bench_cpu_seconds) * ms
    figures = [
        at_least(f"fill, {name}: active", filled.rate, "rows/s", speed.rows_per_second),
        told(f"fill, {name}: wall", filled.rows / filled.wall_seconds, "rows/s"),
        told(f"fill, {name}: CPU of the worker", filled.worker_cpu_seconds * ms, "ms/row"),
        at_most(f"fill, {name}: CPU of worker, operator and bench", ours, "ms/row", 0.08),
        told(f"fill, {name}: CPU of PostgreSQL", filled.postgres_cpu_seconds * ms, "ms/row"),
        at_most(f"fill, {name}: peak memory of the worker", filled.peak_memory_mb, "MB", 200),
        told(f"fill, {name}: calls", filled.seen["count"]),
        told(f"fill, {name}: texts a call", _batch(filled)),
        told(f"fill, {name}: most calls at once", filled.seen["peak_in_flight"]),
        told(f"fill, {name}: tokens, as the vendor counts", filled.seen["tokens"]),
        told(f"fill, {name}: tokens, as the ledger has them", filled.ledger_tokens),
    ]
    if filled.loop_lag_seconds is not None:
        figures.append(at_most(f"fill, {name}: worst lag of the worker's loop", filled.loop_lag_seconds, "s", 0.1))
    if index_seconds is not None:
        figures += [
            told(f"fill, {name}: index, last rows to ready", index_seconds, "s"),
            at_most(f"fill, {name}: fill and index", filled.wall_seconds + index_seconds, "s", 11),
        ]
    return figures


async def _beside_the_ceiling(scene: Scene, speed: Speed, filled: Filled) -> list[Figure]:
    encoding = "base64" if speed.base64 else "float"
    rate, cpu = await ceiling(scene, encoding, filled.rows, _batch(filled), speed.raw_calls_at_once)
    figures = [
        told(f"raw loop, {speed.name}", rate, "rows/s"),
        told(f"raw loop, {speed.name}: CPU", cpu, "ms/row"),
    ]
    name, share = f"fill, {speed.name}: share of the raw loop", filled.rate / rate
    wanted = speed.share_of_ceiling
    return [*figures, told(name, share) if wanted is None else at_least(name, share, "", wanted)]


def _batch(filled: Filled) -> int:
    texts, calls = int(filled.seen["answered_texts"]), int(filled.seen["answered"])
    return round(texts / calls)


async def _bad_row(bench: Measuring) -> list[Figure]:
    async with (
        bench.stock.of(CHUNKS, marked=POISON) as dsn,
        open_scene(dsn, bench.server.pid, latency_ms=20, poison=POISON.strip()) as scene,
    ):
        with scene.worker() as worker:
            filled = await scene.fill(worker, "bench", CHUNKS)
    more = 100 * (filled.seen["texts"] / CHUNKS - 1)
    return [
        exactly(f"one bad row in {CHUNKS:,}: vectors", filled.rows, "", CHUNKS - 1),
        exactly(f"one bad row in {CHUNKS:,}: in quarantine", filled.quarantined, "", 1),
        at_most(f"one bad row in {CHUNKS:,}: more texts sent", more, "%", 5),
        told(f"one bad row in {CHUNKS:,}: active", filled.rate, "rows/s"),
    ]


async def _kill(bench: Measuring) -> list[Figure]:
    """kill -9 of the worker in the middle, then another one."""
    async with bench.stock.of(KILL_CHUNKS) as dsn, open_scene(dsn, bench.server.pid, latency_ms=20) as scene:
        with scene.worker() as first:
            scene.apply("bench")
            await scene.until_filled("bench", KILL_CHUNKS, share=KILL_AT)
            first.kill()
        with scene.worker():
            await scene.until_filled("bench", KILL_CHUNKS)
        seen = scene.vendor.seen()
        vectors, missing = await scene.stored("bench")
        counted = await scene.world.value("select sum(n)::bigint from memory_embedding_counters where scope <> 0")
    name = f"kill -9 in {KILL_CHUNKS:,} rows"
    return [
        exactly(f"{name}: vectors", vectors, "", KILL_CHUNKS),
        exactly(f"{name}: chunks without one", missing, "", 0),
        exactly(f"{name}: counted too much", counted - vectors, "", 0),
        # Of the texts that arrived, not of those that were answered: a vendor charges for what it worked on.
        at_most(f"{name}: paid again", 100 * (seen["texts"] / KILL_CHUNKS - 1), "%", 2),
    ]


async def _large(bench: Measuring) -> list[Figure]:
    assert bench.base64 is not None
    async with bench.stock.of(LARGE_CHUNKS) as dsn, open_scene(dsn, bench.server.pid, latency_ms=20) as scene:
        with scene.worker() as worker:
            filled = await scene.fill(worker, "bench", LARGE_CHUNKS)
    name, small = f"fill of {LARGE_CHUNKS:,}", f"of that with {CHUNKS:,}"
    ms = 1000 / filled.rows
    return [
        told(f"{name}: active", filled.rate, "rows/s"),
        at_least(f"{name}: rate, {small}", filled.rate / bench.base64.rate, "", 0.85),
        at_most(f"{name}: peak memory of the worker", filled.peak_memory_mb, "MB", 200),
        told(f"{name}: peak memory, {small}", filled.peak_memory_mb / bench.base64.peak_memory_mb),
        told(f"{name}: CPU of the worker", filled.worker_cpu_seconds * ms, "ms/row"),
        told(f"{name}: CPU of PostgreSQL", filled.postgres_cpu_seconds * ms, "ms/row"),
    ]


async def _query(bench: Measuring) -> list[Figure]:
    return await fill_query.run(bench.server, bench.stock)


async def _vendor(_bench: Measuring) -> list[Figure]:
    return await vendor_speed.run(DIMENSIONS)


SCENARIOS: dict[str, Callable[[Measuring], Awaitable[list[Figure]]]] = {
    "vendor": _vendor,
    **{name: _speed(name) for name in SPEEDS},
    "bad-row": _bad_row,
    "kill": _kill,
    "query": _query,
    "index": lambda bench: fill_index.run(bench.server, bench.stock),
    "large": _large,
}
