"""A peer beside us: the same texts, the same stub vendor, its own defaults, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.figures import Figure, told
from bench.measured import DIMENSIONS, Scene, open_scene
from bench.stock import TEXTS, Stock
from memory_operator.dev.postgres.server import RunningPostgres

PEERS = ("vecshift",)
CHUNKS = 20_000
LATENCIES_MS = (20, 200)
SECONDS = 900


async def run(server: RunningPostgres, stock: Stock, python: str) -> list[Figure]:
    """Figures of vecshift as `python` finds it, or none and a word on how to install it."""
    if not await asyncio.to_thread(_is_there, python):
        print(
            f"vecshift is not installed for {python}. Into an environment of its own, and then name its Python:\n"
            "  python3 -m venv peer && peer/bin/pip install vecshift\n"
            "  make bench BENCH_ARGS='--only fill --peer vecshift --peer-python peer/bin/python'",
            file=sys.stderr,
        )
        return []
    figures = []
    for latency_ms in LATENCIES_MS:
        async with stock.of(CHUNKS) as dsn, open_scene(dsn, server.pid, latency_ms=latency_ms) as scene:
            figures += await _measure(scene, python, latency_ms)
    return figures


async def _measure(scene: Scene, python: str, latency_ms: float) -> list[Figure]:
    """A migration to a second column; at the lowest latency with its index, which does not depend on that."""
    world = scene.world
    await world.fetch(
        "create table peer_texts as select id, text, array_fill(1, array[8])::vector(8) as embedding"
        f" from {TEXTS} order by id"
    )
    await world.fetch("alter table peer_texts add primary key (id)")
    await world.fetch("analyze peer_texts")
    job = _job(scene.folder, scene.vendor.base_url)
    filled = await asyncio.to_thread(_apply, python, world.dsn, job, "--no-index")
    seen = scene.vendor.seen()
    [row] = await world.fetch(
        "select count(embedding_v2) as rows, extract(epoch from max(pg_xact_commit_timestamp(xmin)))::float8"
        " as last from peer_texts"
    )
    assert row["rows"] == CHUNKS, row["rows"]
    name, active = f"vecshift, {latency_ms} ms a call", row["last"] - seen["first_batch_at"]
    figures = [
        told(f"{name}: active", CHUNKS / active, "rows/s"),
        told(f"{name}: its CPU", 1000 * filled["cpu_seconds"] / CHUNKS, "ms/row"),
        told(f"{name}: its peak memory", filled["peak_memory_mb"], "MB"),
        told(f"{name}: calls", seen["count"]),
    ]
    if latency_ms == min(LATENCIES_MS):
        indexed = await asyncio.to_thread(_apply, python, world.dsn, job)
        figures.append(told(f"{name}: fill and index", active + indexed["seconds"], "s"))
    return figures


def _is_there(python: str) -> bool:
    return subprocess.run([python, "-c", "import vecshift"], capture_output=True, check=False).returncode == 0


def _job(folder: Path, base_url: str) -> Path:
    job = folder / "vecshift.yaml"
    job.write_text(
        "version: 1\nname: peer\n"
        "source: {type: pgvector, dsn_env: VECSHIFT_DSN, table: peer_texts, vector_column: embedding,"
        " text_column: text}\n"
        "target: {column: embedding_v2, vector_type: vector, index: hnsw}\n"
        f'model: "compat/bench,url={base_url},dims={DIMENSIONS},price=0"\n'
    )
    return job


def _apply(python: str, dsn: str, job: Path, *words: str) -> dict[str, Any]:
    """Run `vecshift apply` to its end: seconds, CPU, peak memory."""
    environment = {"PATH": os.environ["PATH"], "VECSHIFT_DSN": dsn, "HOME": str(job.parent)}
    started = time.perf_counter()
    command = [python, "-c", _MEASURED, "apply", str(job), "--yes", *words]
    done = subprocess.run(
        command, cwd=job.parent, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    used: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return {"seconds": time.perf_counter() - started, **used}


# Says at its end what it has used, as the last line of its stderr.
_MEASURED = """
import atexit, json, resource, sys

def tell():
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_memory_mb": used.ru_maxrss / 1024}
    print(json.dumps(told), file=sys.stderr)

atexit.register(tell)
from vecshift.cli import app
sys.argv[0] = "vecshift"
app()
"""
