"""One fill, measured: a worker process, the stub vendor's process, PostgreSQL's, and the database's own timestamps."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.proc import OwnProcess, cpu_seconds, peak_memory_mb, tree_cpu_seconds
from fixtures.engine import World, open_world
from vendor.stub import VendorProcess

DIMENSIONS = 768
FILL_SECONDS = 7_200.0
CEILING_SECONDS = 600
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Filled:
    """What a fill took."""

    rows: int
    """Vectors that are there."""
    quarantined: int
    active_seconds: float
    """First call to the commit of the last rows."""
    wall_seconds: float
    """The job's creation to the commit of the last rows."""
    worker_cpu_seconds: float
    bench_cpu_seconds: float
    """Of this process: the operator, and the polling of the bench."""
    postgres_cpu_seconds: float
    peak_memory_mb: float
    seen: dict[str, Any]
    """What the vendor saw."""
    ledger_tokens: int
    """Tokens of all paid calls, as the database keeps them."""
    loop_lag_seconds: float | None

    @property
    def rate(self) -> float:
        """Rows a second while it was active."""
        return self.rows / self.active_seconds


class Scene:
    """A database with an operator in this process, and the processes that a scenario starts."""

    def __init__(self, world: World, server_pid: int, vendor: VendorProcess, folder: Path) -> None:
        self.world = world
        self.vendor = vendor
        self.folder = folder
        self._server_pid = server_pid

    def worker(self) -> OwnProcess:
        """A worker with nothing but defaults, to be entered."""
        return OwnProcess(self.folder, self.world.dsn, "worker")

    def apply(self, name: str, dimensions: int = DIMENSIONS, **spec: Any) -> None:
        """`kubectl apply` of a Provider at the stub vendor."""
        base = {"type": "openai_compatible", "model": name, "baseURL": self.vendor.base_url}
        self.world.cluster.apply(name, {**base, **spec, "embedding": {"dimensions": dimensions}})

    async def fill(self, worker: OwnProcess, name: str, count: int) -> Filled:
        """Apply a Provider and wait until each chunk has its vector or is in quarantine."""
        await _until(self._worker_is_present, 30)
        self.vendor.forget()
        before = (cpu_seconds(worker.pid), time.process_time(), tree_cpu_seconds(self._server_pid))
        self.apply(name)
        space = await self.until_filled(name, count)
        after = (cpu_seconds(worker.pid), time.process_time(), tree_cpu_seconds(self._server_pid))
        used = [end - start for start, end in zip(before, after, strict=True)]
        return await self._filled(space, used, worker)

    async def serve(self, name: str, count: int, dimensions: int = DIMENSIONS, **spec: Any) -> None:
        """Apply a Provider and wait until its space answers queries, with so many vectors and their index."""
        self.apply(name, dimensions, **spec)
        await self.until_filled(name, count)
        await self.until_ready(name)

    async def until_filled(self, name: str, count: int, share: float = 1.0) -> int:
        """Wait for that share of a fill; the space's id."""
        find = "select id from memory_embedding_spaces where provider_name = $1"
        space: int = await _until(lambda: self.world.value(find, name), 60)

        async def reached() -> bool:
            there: bool = await self.world.value(
                "select coalesce((select sum(n) from memory_embedding_counters where scope = $1), 0)"
                " + (select count(*) from memory_embedding_quarantine where space_id = $1) >= $2",
                space,
                int(count * share),
            )
            return there

        await _until(reached, FILL_SECONDS)
        return space

    async def until_ready(self, name: str) -> float:
        """Wait until a space is ready, with its index; seconds from the commit of its last rows."""
        space = await self.until_answering(name)
        return float(
            await self.world.value(
                "select extract(epoch from state_changed_at)::float8 - $2 from memory_embedding_spaces where id = $1",
                space,
                await self._last_commit(space),
            )
        )

    async def until_answering(self, name: str) -> int:
        """Wait until a space is ready; its id."""
        ready = "select id from memory_embedding_spaces where provider_name = $1 and state = 'ready'"
        return int(await _until(lambda: self.world.value(ready, name), FILL_SECONDS))

    async def stored(self, name: str) -> tuple[int, int]:
        """Vectors of a space, counted one by one; live chunks that lack one."""
        space = await self.world.value("select id from memory_embedding_spaces where provider_name = $1", name)
        table = f"memory_vectors_{space}"
        missing = (
            f"select count(*) from memory_chunks c left join {table} v on v.chunk_id = c.id where v is null and c.live"
        )
        return await self.world.value(f"select count(*) from {table}"), await self.world.value(missing)

    async def _worker_is_present(self) -> bool:
        present: bool = await self.world.value(
            "select exists (select from pg_stat_activity where datname = current_database()"
            " and application_name like 'memory-worker%')"
        )
        return present

    async def _filled(self, space: int, used: list[float], worker: OwnProcess) -> Filled:
        [job] = await self.world.fetch(
            "select extract(epoch from created_at)::float8 as created,"
            " extract(epoch from first_call_at)::float8 as first_call"
            " from memory_reembed_jobs where space_id = $1 order by id limit 1",
            space,
        )
        last = await self._last_commit(space)
        seen = self.vendor.seen()
        # Whichever is earlier: the vendor saw the call, the job may note it only when it was answered.
        first = min(seen["first_batch_at"], job["first_call"])
        quarantined = "select count(*) from memory_embedding_quarantine where space_id = $1"
        return Filled(
            rows=await self.world.value(f"select count(*) from memory_vectors_{space}"),
            quarantined=await self.world.value(quarantined, space),
            active_seconds=last - first,
            wall_seconds=last - job["created"],
            worker_cpu_seconds=used[0],
            bench_cpu_seconds=used[1],
            postgres_cpu_seconds=used[2],
            peak_memory_mb=peak_memory_mb(worker.pid),
            seen=seen,
            ledger_tokens=await self.world.value("select coalesce(sum(tokens), 0) from memory_usage_ledger"),
            loop_lag_seconds=worker.metric("memory_worker_loop_lag_seconds"),
        )

    async def _last_commit(self, space: int) -> float:
        """Unix time of the last commit that stored a vector (the bench's server keeps commit timestamps)."""
        return float(
            await self.world.value(
                "select extract(epoch from max(pg_xact_commit_timestamp(x)))::float8"
                f" from (select distinct xmin as x from memory_vectors_{space}) stored"
            )
        )


async def _until(check: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    """Poll, but seldom: the polling is part of what is measured."""
    deadline = time.monotonic() + seconds
    while not (found := await check()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(POLL_SECONDS)
    return found


@asynccontextmanager
async def open_scene(
    dsn: str, server_pid: int, before: Callable[[Scene], None] | None = None, **habits: Any
) -> AsyncIterator[Scene]:
    """A scene with a running operator; `habits` are those of the stub vendor. `before` runs before the operator."""
    with tempfile.TemporaryDirectory() as folder, VendorProcess(DIMENSIONS, fast=True, **habits) as vendor:
        async with open_world(dsn) as world:
            scene = Scene(world, server_pid, vendor, Path(folder))
            if before is not None:
                before(scene)
            async with world.operator():
                yield scene


async def ceiling(scene: Scene, encoding: str, count: int, batch: int, at_once: Sequence[int]) -> tuple[float, float]:
    """Rows a second of the raw loop, the best of so many calls at a time; its CPU ms a row then."""
    best = (0.0, 0.0)
    for in_flight in at_once:
        arguments = [scene.world.dsn, scene.vendor.base_url, encoding, DIMENSIONS, count, batch, in_flight]
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "bench.ceiling", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=CEILING_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        taken = json.loads(done.stdout)
        best = max(best, (count / taken["seconds"], 1000 * taken["cpu_seconds"] / count))
    return best
