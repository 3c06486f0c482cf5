"""The fill of one space by one worker: reading, calling and writing side by side, each as fast as the others let it.

    read a range → decrypt → drop duplicates → pack → N calls in flight → one writer with binary COPY

No transaction is open during a call. What is in hand is bounded: texts that wait by READ_AHEAD_ROWS, rows that were
sent and are not committed yet by `rows_at_risk`, which is also what a crash may cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from memory_operator import metrics
from memory_operator.embedders import batch_limit, token_limits
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.spans import space_span
from memory_operator.engine.fill.batch import Item
from memory_operator.engine.fill.inflight import InFlight
from memory_operator.engine.fill.reader import Reader
from memory_operator.engine.fill.sender import Sender
from memory_operator.engine.fill.writer import CallResult, commit
from memory_operator.errors import LockBusy, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Conn, Store, TableGone, terminate_after, translate_errors
from memory_operator.store.jobs import jobs, leases, missing
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.leases import LEASE_SECONDS, Backend, LeaseLost
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import spaces
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.spaces.vectors import COPY_SECONDS
from memory_operator.store.usage import ledger
from memory_operator.store.usage.ledger import Outcome

log = get_logger(__name__)

READ_AHEAD_ROWS = 2_000
"""More is read when fewer texts than this wait to be sent."""
DRAIN_SECONDS = 8.0
"""How long calls in flight may take to be answered and stored when the worker stops."""

_ROWS_AT_RISK = 1_664
_SHARE_AT_RISK = 0.015
_SLOW_CALL_SECONDS = 0.1
_BYTES_AT_RISK = 48 * 1024 * 1024
_BYTES_PER_NUMBER = 16
"""Of a reply, its vectors and their COPY, together."""
_ROWS_PER_COMMIT = 2_048
_IDLE_SECONDS = 0.5
_GIVE_BACK_SECONDS = 3.0
"""Enough for a server that answers; from one that does not, leases and claims run out by themselves."""
_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 4.0


def rows_at_risk(dimensions: int, total: int, call_seconds: float) -> int:
    """Most rows that are sent and not committed: a crash has them paid again, and they take memory.

    At a vendor that takes its time, more have to be under way for the same rate.
    """
    by_memory = _BYTES_AT_RISK // (dimensions * _BYTES_PER_NUMBER)
    least = _ROWS_AT_RISK * (2 if call_seconds > _SLOW_CALL_SECONDS else 1)
    return min(max(least, round(total * _SHARE_AT_RISK)), max(256, by_memory))


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What the fills of one worker share."""

    store: Store
    connector: Connector
    keys: KeyRing
    name: str
    presence: int
    """Key of the lock by which the worker shows that it is alive."""


class SpaceFill:
    """Fills one space until nothing is left to do for it, or it is told to stop."""

    def __init__(self, bench: WorkerContext, space: Space) -> None:
        self.space = space
        self._bench = bench
        self._store = bench.store
        self._hand = InFlight()
        self._job: Job | None = None
        self._reader = Reader(bench.store, bench.keys, self._hand, bench.name, bench.presence)
        self._caller = Sender(bench.store, bench.connector, space, self._hand, bench.presence)
        self._backend: Backend | None = None
        self._read_all = False
        self._look = True
        self._calls: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Send nothing more; what is under way is answered, stored and given back, within DRAIN_SECONDS."""
        self._hand.stopping.set()
        self._hand.changed.set()

    def look_again(self) -> None:
        """There may be more to read, or the Provider may say something else."""
        self._read_all = False
        self._look = True
        self._hand.changed.set()

    async def run(self) -> None:
        """Fill until nothing is left; ranges are given back in any case."""
        name = self.space.embedding_version
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(), name=f"writer of {name}")
                beat = group.create_task(self._heartbeat(), name=f"heartbeat of {name}")
                await self._send(group)
                await self._drain()
                for task in (writer, beat, *self._calls):
                    task.cancel()
        except* TableGone:
            log.info("%s was discarded while it was filled", name)
        finally:
            await asyncio.shield(self._give_back())

    async def _send(self, group: asyncio.TaskGroup) -> None:
        """Read and send until there is nothing left, or the worker stops."""
        failures = 0
        while not self._hand.stopping.is_set():
            self._hand.changed.clear()
            try:
                if self._look:
                    self._look = False
                    if not await self._refresh():
                        return
                read = await self._read_more()
                failures = 0
            except (StoreUnavailable, LockBusy) as error:
                log.info("reading waits: %s", error)
                failures += 1
                read = False
            sent = await self._send_one(group)
            if read or sent:
                continue
            if self._read_all and not failures and self._hand.empty and not self._calls:
                return
            pause = min(_LAST_RETRY_SECONDS, _RETRY_SECONDS * 2**failures) if failures else _IDLE_SECONDS
            await self._wait_for_change(pause)

    async def _read_more(self) -> bool:
        """Read ahead, pending chunks first; False when there is no room, or nothing to read."""
        if self._hand.waiting >= READ_AHEAD_ROWS or self._read_all or self._backend is None:
            return False
        if await self._reader.read_pending(self.space):
            return True
        if self._job is not None and await self._reader.read_range(self.space, self._job, self._backend):
            return True
        self._read_all = True
        return False

    async def _refresh(self) -> bool:
        """Read what the Provider says by now, and which job is open; False when the space is gone."""
        async with self._store.connection() as conn:
            space = await spaces.get(conn, self.space.id)
            job = await jobs.running(conn, self.space.id)
        if space is None:
            return False
        self.space = space
        if self._job is not None and (job is None or job.id != self._job.id):
            await self._give_up_ranges()
        self._job = job
        self._caller.follow(space)
        return True

    async def _send_one(self, group: asyncio.TaskGroup) -> bool:
        """Let one call leave; False when none can."""
        hand, space = self._hand, self.space
        if not hand.waiting or not self._caller.may_send:
            return False
        at_risk = rows_at_risk(space.dimensions, self._job.total if self._job else 0, self._caller.call_seconds)
        most_texts = min(batch_limit(space.config), at_risk)
        if hand.sent + most_texts > at_risk:
            return False
        most_tokens, _ = token_limits(space.config)
        partly = self._read_all or hand.waiting >= READ_AHEAD_ROWS
        batch = hand.next_batch(most_texts, most_tokens, self._caller.estimate, partly=partly)
        if not batch:
            return False
        hand.sent += len(batch)
        self._caller.enter()
        task = group.create_task(self._call(batch), name=f"call for {space.embedding_version}")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return True

    async def _call(self, batch: Sequence[Item]) -> None:
        of_ranges = any(item.held is not None for item in batch)
        job = self._job if of_ranges else None
        try:
            if of_ranges and job is None:  # it was paused, or ended, just now
                self._caller.not_tried()
                self._hand.put_back(batch)
                goes_on = False
            else:
                goes_on = await self._caller.call(batch, job)
        finally:
            self._caller.pace.leave()
            self._hand.changed.set()
        if not goes_on:
            await self._give_up_ranges()

    async def _wait_for_change(self, seconds: float) -> None:
        rest = self._caller.rests_for
        try:
            async with asyncio.timeout(min(seconds, rest) if rest else seconds):
                await self._hand.changed.wait()
        except TimeoutError:
            return

    async def _drain(self) -> None:
        """Wait for what is under way."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._calls or self._hand.sent or self._hand.answers:
                    self._hand.changed.clear()
                    await self._wait_for_change(_IDLE_SECONDS)
        except TimeoutError:
            log.warning("%d rows are given up that were sent and not stored in time", self._hand.sent)

    async def _write(self) -> None:
        """Commit answers as they come, on a connection of its own, which comes back when the server does."""
        while True:
            try:
                async with self._store.dedicated("memory-worker") as conn:
                    async with terminate_after(conn, COPY_SECONDS):
                        self._backend = await leases.backend_of(conn)
                        await leases.renew(conn, [held.lease for held in self._hand.held.values()], self._backend)
                    self._hand.changed.set()
                    await self._write_on(conn)
            except TableGone:
                raise
            except (StoreUnavailable, LockBusy) as error:
                log.info("writing waits: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                # What is in hand is paid: to begin anew would be to pay it again, as often as it fails.
                log.exception("writing for %s waits", self.space.embedding_version)
                await asyncio.sleep(_LAST_RETRY_SECONDS)

    async def _write_on(self, conn: Conn) -> None:
        hand = self._hand
        while True:
            answers = hand.take_answers(_ROWS_PER_COMMIT)
            if not answers:
                hand.answered.clear()
                await hand.answered.wait()
                continue
            try:
                async with terminate_after(conn, COPY_SECONDS):
                    await self._commit(conn, answers)
            finally:
                hand.answers.extendleft(reversed(answers))  # those that were not committed

    async def _commit(self, conn: Conn, answers: list[CallResult]) -> None:
        """Store answers and take them off the list; those of ranges that were lost are dropped."""
        while answers:
            job, job_id = answers[0].job, answers[0].job_id
            part = [answer for answer in answers if answer.job_id == job_id]
            try:
                with (
                    metrics.FILL_STAGE_SECONDS.labels("write").time(),
                    space_span("fill.write", self.space, job) as span,
                ):
                    async with translate_errors():
                        done = await commit(conn, self.space, part, job)
                    span.note(vectors=done.new, copied=done.copied, quarantined=done.quarantined)
            except LeaseLost as lost:
                metrics.FILL_LEASES_LOST.inc(len(lost.lost))
                log.info("%s", lost)
                self._hand.lose(lost.lost, answers)
                answers[:] = [self._hand.without_lost(answer) for answer in answers]
                continue
            answers[:] = [answer for answer in answers if answer.job_id != job_id]
            for answer in part:
                self._hand.settle(answer)
            await self._release(conn)

    async def _heartbeat(self) -> None:
        """Renew what is held, in time for nobody to take it over."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            held = list(self._hand.held.values())
            try:
                async with self._store.connection() as conn:
                    await missing.keep_pending(conn, self.space.id, self._bench.presence)
                    await self._release(conn)
                    if held and self._backend is not None:
                        self._hand.lose(await leases.renew(conn, [each.lease for each in held], self._backend))
            except (StoreUnavailable, LockBusy) as error:
                log.info("leases were not renewed: %s", error)

    async def _give_up_ranges(self) -> None:
        """The job no longer runs: give back what was claimed for it, once nothing is under way there."""
        self._hand.give_up_ranges()
        self.look_again()
        try:
            async with self._store.connection() as conn:
                await self._release(conn)
        except (StoreUnavailable, LockBusy) as error:
            log.info("ranges are given back a little later: %s", error)

    async def _release(self, conn: Conn) -> None:
        """Give back what is to be given back; it stays on the list until it is."""
        back = list(self._hand.to_release)
        if back:
            await leases.release(conn, back)
            self._hand.to_release = [lease for lease in self._hand.to_release if lease not in back]
            self._hand.changed.set()

    async def _give_back(self) -> None:
        """The end: nothing stays claimed, and what was called for is written down."""
        by_job: dict[int | None, list[Outcome]] = {}
        for answer in self._hand.answers:
            by_job.setdefault(answer.job_id, []).extend(answer.outcomes)
        try:
            async with translate_errors(), asyncio.timeout(_GIVE_BACK_SECONDS), self._store.transaction() as conn:
                for job_id, outcomes in by_job.items():
                    fresh = await ledger.complete(conn, outcomes)
                    if job_id is not None:
                        await ledger.spend(conn, job_id, fresh)
            async with translate_errors(), asyncio.timeout(_GIVE_BACK_SECONDS), self._store.connection() as conn:
                held = [each.lease for each in self._hand.held.values()]
                await leases.release(conn, [*held, *self._hand.to_release])
                await missing.give_back_pending(conn, self.space.id, self._bench.presence)
        except (StoreUnavailable, LockBusy) as error:
            log.info("what was claimed is free when its lease runs out: %s", error)
