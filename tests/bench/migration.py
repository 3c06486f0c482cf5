"""What this release's migrations cost those who write: release 0.1 adds memories while its database is migrated."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import numpy as np

from bench.figures import Figure, at_most, exactly, told
from bench.stock import store_memories
from fixtures.dev import Dev
from fixtures.engine import MASTER_KEY
from fixtures.postgres import open_folder
from fixtures.release_before import built_release, program
from memory_operator.dev.postgres.server import RunningPostgres
from memory_operator.store.db.pool import open_store

CHUNKS, CHUNKS_LARGE = 50_000, 1_000_000
WRITERS = 4
QUIET_SECONDS = 10.0
MOST_PAUSE_SECONDS = 1.0


async def run(server: RunningPostgres, large: bool) -> list[Figure]:
    """The longest add before and during the migrations, and that none was lost or refused."""
    count = CHUNKS_LARGE if large else CHUNKS
    administrator = await asyncpg.connect(server.administrator_dsn)
    await administrator.execute("create database migration owner memory")
    url = urlunsplit(urlsplit(server.dsn)._replace(path="/migration"))
    extension = await asyncpg.connect(urlunsplit(urlsplit(server.administrator_dsn)._replace(path="/migration")))
    await extension.execute("create extension vector")
    await extension.close()
    release = await asyncio.to_thread(built_release)
    command, environment = program(release)
    folder = open_folder()
    old = Dev(folder, "--database-url", url, program=command, environment=environment)
    try:
        return await _figures(old, url, count)
    finally:
        await asyncio.to_thread(old.close)
        await administrator.execute("drop database migration with (force)")
        await administrator.close()


async def _figures(old: Dev, url: str, count: int) -> list[Figure]:
    old.data.mkdir()
    key = old.data / "master.key"
    key.write_bytes(base64.b64encode(MASTER_KEY))
    key.chmod(0o600)
    there = {"MEMORY_DATABASE_URL": url}
    before_ours = {**(old.environment or {}), **there}
    await asyncio.to_thread(subprocess.run, [*old.program, "migrate"], env=before_ours, check=True)
    async with await open_store(url, application="memory-bench") as store:
        await store_memories(store, count)
    old.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}})
    await asyncio.to_thread(old.start)
    await asyncio.to_thread(old.until_ready, 64, 3600.0)
    writers = [_Writer(old.port, number) for number in range(WRITERS)]
    tasks = [asyncio.create_task(writer.run()) for writer in writers]
    await asyncio.sleep(QUIET_SECONDS)
    started = time.perf_counter()
    this = [str(Path(sys.executable).with_name("memory-operator")), "migrate"]
    await asyncio.to_thread(subprocess.run, this, env={**os.environ, **there}, check=True)
    ended = time.perf_counter()
    for writer in writers:
        writer.stopped = True
    await asyncio.gather(*tasks)
    adds = [add for writer in writers for add in writer.adds]
    before = [seconds for start, seconds in adds if start < started]
    during = [seconds for start, seconds in adds if start + seconds > started and start < ended]
    conn = await asyncpg.connect(url)
    stored = await conn.fetchval("select count(*) from memory_entries")
    await conn.close()
    name = f"migrations beside {WRITERS} writers, {count:,} chunks"
    return [
        told(f"{name}: all of them", ended - started, "s"),
        told(f"{name}: longest add before", max(before), "s"),
        at_most(f"{name}: longest add meanwhile", max(during), "s", MOST_PAUSE_SECONDS + float(np.median(before))),
        told(f"{name}: adds meanwhile", len(during)),
        exactly(f"{name}: acknowledged and not stored", len(adds) + count - stored, "", 0),
        exactly(f"{name}: adds that failed", sum(writer.failed for writer in writers), "", 0),
    ]


class _Writer:
    """Adds one memory after the other until `stopped`."""

    def __init__(self, port: int, number: int) -> None:
        self.stopped = False
        self.failed = 0
        self.adds: list[tuple[float, float]] = []
        self._port, self._number = port, number

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}", timeout=120) as client:
            while not self.stopped:
                start = time.perf_counter()
                text = f"memory {len(self.adds)} of writer {self._number}"
                answer = await client.post("/memory/add", json={"text": text})
                if answer.status_code == 201:
                    self.adds.append((start, time.perf_counter() - start))
                else:
                    self.failed += 1
