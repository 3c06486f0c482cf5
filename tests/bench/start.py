"""What a command costs before it does anything: CPU, and how much it imports.

The CPU of an interpreter that does nothing is told first: it is part of each figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures import Figure, at_most, told
from bench.http_load import Connection
from bench.load import serve_api
from bench.measured import Scene, open_scene
from bench.proc import cpu_seconds
from bench.stock import PROJECT, Stock
from fixtures.dev import free_port
from memory_operator.dev.postgres.server import RunningPostgres

CHUNKS = 1_000
DIMENSIONS = 64
TIMES = 7
HELP_SECONDS = 0.3
QUERY_SECONDS = 0.35
SERVERS = {
    "operator": "memory_operator.processes.operator",
    "worker": "memory_operator.processes.worker",
    "api": "memory_operator.processes.api",
    "migrate": "memory_operator.processes.migrate",
    "webhook": "memory_webhook.main",
}
"""Processes, and the module that each imports when it starts."""

_MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, check=False)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


async def run(server: RunningPostgres) -> list[Figure]:
    """Figures of starting."""
    bare = await asyncio.to_thread(_cpu, [sys.executable, "-c", "pass"], {})
    figures = [told("an interpreter that does nothing: CPU", bare, "s")]
    for name in ("memory", "memory-operator"):
        used = await asyncio.to_thread(_cpu, [_program(name), "--help"], {})
        figures += [at_most(f"{name} --help: CPU", used, "s", HELP_SECONDS), _of_bare(f"{name} --help", used, bare)]
    for name, module in SERVERS.items():
        words = [sys.executable, "-c", f"import {module}"]
        used = await asyncio.to_thread(_cpu, words, {})
        figures += [told(f"{name}, imports: CPU", used, "s"), _of_bare(f"{name}, imports", used, bare)]
        figures.append(told(f"{name}, imports: modules", await asyncio.to_thread(_modules, module)))
    stock = Stock(server)
    async with stock.of(CHUNKS) as dsn, open_scene(dsn, server.pid, latency_ms=0) as scene:
        with scene.worker() as worker:
            figures.append(told("worker, ready: CPU", cpu_seconds(worker.pid), "s"))
            await scene.serve("served", CHUNKS, DIMENSIONS)
        figures += await _query(scene, bare)
    return figures


def _of_bare(what: str, used: float, bare: float) -> Figure:
    return told(f"{what}: CPU, of an interpreter that does nothing", used / bare)


async def _query(scene: Scene, bare: float) -> list[Figure]:
    """`memory query` on a server that has answered before."""
    port = free_port()
    with serve_api(scene, port) as api:
        ready = told("api, ready: CPU", cpu_seconds(api.pid), "s")
        connection = Connection(port, "busy")
        for _ in range(TIMES):
            status, answer = await connection.ask("POST", "/memory/query", {"query": "anything", "project": PROJECT})
            assert status == 200, answer
        connection.close()
        words = [_program("memory"), "query", "anything", "--project", PROJECT]
        where = {"MEMORY_API": f"http://127.0.0.1:{port}", "MEMORY_TOKEN": "busy"}
        used = await asyncio.to_thread(_cpu, words, where)
    name = "memory query, of a warm server"
    return [ready, at_most(f"{name}: CPU", used, "s", QUERY_SECONDS), _of_bare(name, used, bare)]


def _cpu(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds of user and system time of a command, its children included: the median of some runs."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    with tempfile.TemporaryDirectory() as home:
        taken = list[float]()
        for _ in range(TIMES):
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, *words],
                capture_output=True,
                text=True,
                check=True,
                env={**kept, "HOME": home, **environment},
            )
            code, seconds, _ = json.loads(done.stdout)
            assert code == 0, f"{words} failed: {code}"
            taken.append(seconds)
    return statistics.median(taken)


def _modules(module: str) -> int:
    code = f"import sys, {module}; print(len(sys.modules))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
