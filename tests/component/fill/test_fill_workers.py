"""Workers as processes of their own: side by side, killed, and stopped at the worst moment."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.proc import OwnProcess
from fixtures.engine import World
from fixtures.fills import complete, provider, sent, sound
from fixtures.waiting import WAIT_SECONDS, until
from memory_operator.store.jobs.leases import LEASE_SECONDS
from vendor.stub import StubVendor

CHUNKS = 3_000


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=256, latency_ms=20) as stub:
        yield stub


def folder(parent: Path, name: str) -> Path:
    """A folder for one process."""
    made = parent / name
    made.mkdir()
    return made


_PRESENT = """
select count(*) = 2 from pg_stat_activity where datname = current_database() and application_name = 'memory-presence'
"""


async def test_two_workers_share_a_fill_and_pay_no_chunk_twice(
    world: World, vendor: StubVendor, tmp_path: Path
) -> None:
    await world.stored(CHUNKS * 2)
    async with world.operator():
        with (
            OwnProcess(folder(tmp_path, "one"), world.dsn, "worker"),
            OwnProcess(folder(tmp_path, "two"), world.dsn, "worker"),
        ):
            await until(lambda: world.value(_PRESENT), "both are there")
            world.cluster.apply("memory", provider(vendor, dimensions=256, batchSize=100))
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    texts = sent(vendor)
    assert len(texts) == len(set(texts)) == CHUNKS * 2
    workers = "select count(distinct presence) from memory_usage_ledger where presence is not null"
    assert await world.value(workers) == 2


async def test_killing_a_worker_at_any_time_loses_nothing_and_pays_again_only_what_was_in_flight(
    world: World, vendor: StubVendor, tmp_path: Path
) -> None:
    await world.stored(CHUNKS)
    async with world.operator():
        world.cluster.apply("memory", provider(vendor, dimensions=256, batchSize=50))
        await until(lambda: world.value("select count(*) from memory_reembed_jobs"), "a job is there")
        for number in range(4):
            with OwnProcess(folder(tmp_path, f"killed-{number}"), world.dsn, "worker") as worker:
                goal = CHUNKS * (number + 1) // 6
                await until(
                    lambda goal=goal: world.value("select count(*) > $1 from memory_vectors_1", goal),
                    "the fill gets further",
                    60,
                )
                worker.kill()
        with OwnProcess(folder(tmp_path, "last"), world.dsn, "worker"):
            await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    texts = sent(vendor)
    assert len(set(texts)) == CHUNKS
    in_flight = await world.value("select sum(inputs) from memory_usage_ledger where state = 'sent'")
    assert len(texts) - CHUNKS <= (in_flight or 0)
    answered = "select sum(inputs) from memory_usage_ledger where state = 'answered' and purpose = 'fill'"
    assert await world.value(answered) == CHUNKS


async def test_a_worker_stopped_inside_copy_is_replaced_and_writes_nothing_when_it_goes_on(
    world: World, vendor: StubVendor, tmp_path: Path
) -> None:
    vendor.latency_ms = 0
    await world.stored(CHUNKS)
    async with world.operator():
        with OwnProcess(folder(tmp_path, "stopped"), world.dsn, "worker") as stopped:
            world.cluster.apply("memory", provider(vendor, dimensions=256, batchSize=200))
            await _stop_inside_copy(world, stopped.pid)
            before = await world.value("select count(*) from memory_vectors_1")
            try:
                assert before < CHUNKS
                with OwnProcess(folder(tmp_path, "other"), world.dsn, "worker"):
                    await until(lambda: complete(world), "the fill is complete", LEASE_SECONDS + WAIT_SECONDS)
                    counted = await world.value("select xmin::text from memory_vectors_1 order by chunk_id limit 1")
                    os.kill(stopped.pid, signal.SIGCONT)
                    await asyncio.sleep(3)
                    assert await world.value("select count(*) from memory_vectors_1") == CHUNKS
                    assert counted == await world.value(
                        "select xmin::text from memory_vectors_1 order by chunk_id limit 1"
                    )
            finally:
                os.kill(stopped.pid, signal.SIGCONT)
    await sound(world)


async def _stop_inside_copy(world: World, pid: int) -> None:
    """Stop a worker while its server session is in the middle of a COPY, or between it and the commit."""
    inside = (
        "select count(*) > 0 from pg_stat_activity where application_name = 'memory-worker'"
        " and datname = current_database() and xact_start is not null"
        " and (query ilike 'copy%' or state = 'idle in transaction')"
        # The session that it writes by: others have short transactions of their own, such as for the ledger.
        " and pid in (select backend_pid from memory_reembed_leases)"
    )
    for _ in range(100):
        await until(lambda: world.value(inside), "a worker is inside a transaction of a commit")
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.3)
        if await world.value(inside) and await world.value("select count(*) < $1 from memory_vectors_1", CHUNKS - 300):
            return
        os.kill(pid, signal.SIGCONT)
    pytest.fail("the worker was never seen inside a COPY")
