"""The fill of one space by one worker: reading, calling and writing at the same time.

    read a range → decrypt → drop duplicates → pack → N calls in flight → one writer with binary COPY

No transaction is open during a call. What is in flight is bounded: texts that wait by READ_AHEAD_ROWS, rows that were
sent and are not committed yet by `rows_at_risk`, which is also what a crash may cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from memory_operator.backoff import backoff
from memory_operator.embedders import batch_limit, token_limits
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.spans import space_span
from memory_operator.engine.fill.batch import Item
from memory_operator.engine.fill.commit_size import CommitSize
from memory_operator.engine.fill.inflight import InFlight
from memory_operator.engine.fill.reader import Reader
from memory_operator.engine.fill.sender import Sender
from memory_operator.engine.fill.writer import (
    CallResult,
    CommitResult,
    commit,
    commit_equals,
    count_commit,
    finish,
    rows_of,
)
from memory_operator.errors import LeaseLost, LockBusy, SpaceVanished, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Conn, Store, terminate_after, transaction_limits, translate_errors
from memory_operator.store.jobs import fresh, jobs, leases, missing
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.leases import Backend
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
_IDLE_SECONDS = 0.5
_RELEASE_SECONDS = 3.0
"""Enough for a server that answers; from one that does not, leases and claims expire by themselves."""
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 4.0
_WRITE_RETRY_SECONDS = 0.5


def rows_at_risk(dimensions: int, total: int, call_seconds: float) -> int:
    """Most rows that are sent and not committed: a crash has them paid again, and they take memory.

    Slow vendors need more rows in flight for the same throughput.
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
    commit_seconds: float = COPY_SECONDS
    """A connection whose commit takes longer is cut off."""


class SpaceFill:
    """Fills one space until nothing is left to do for it, or it is told to stop."""

    def __init__(self, context: WorkerContext, space: Space) -> None:
        self.space = space
        self._context = context
        self._store = context.store
        self._in_flight = InFlight()
        self._job: Job | None = None
        self._reader = Reader(context.store, context.keys, self._in_flight, context.name, context.presence)
        self._sender = Sender(context.store, context.connector, space, self._in_flight, context.presence)
        self._backend: Backend | None = None
        self._size = CommitSize(context.commit_seconds)
        self._exhausted = False
        """Nothing more was there to read, when this was last tried."""
        self._outdated = True
        """The Provider may say something else by now, or another job may be open."""
        self._calls: set[asyncio.Task[None]] = set()
        self._clock = asyncio.get_running_loop().time
        self._job_rests_until = 0.0
        """The job is to have a pause between its calls."""
        self._drain_seconds: float | None = None

    def stop(self) -> None:
        """Send nothing more; calls in flight are answered and stored, ranges released, within DRAIN_SECONDS."""
        self._drain_seconds = DRAIN_SECONDS
        self._in_flight.stop()

    def end_turn(self) -> None:
        """Send nothing more, so that another space may be filled; what is in flight is stored first."""
        self._in_flight.stop()

    @property
    def leaving(self) -> bool:
        """Whether it sends nothing more, and waits for what is in flight."""
        return self._in_flight.stopping

    @property
    def unanswered(self) -> bool:
        """Whether it was stopped before any of its calls was answered."""
        return self.leaving and not self._sender.was_answered

    def look_again(self) -> None:
        """There may be more to read, or the Provider may say something else."""
        self._exhausted = False
        self._outdated = True
        self._in_flight.wake()

    async def run(self) -> None:
        """Fill until nothing is left; ranges are released in any case."""
        name = self.space.embedding_version
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(), name=f"writer of {name}")
                await self._send(group)
                await self._drain()
                for task in (writer, *self._calls):
                    task.cancel()
        except* SpaceVanished:
            log.info("fill ended, the space was discarded (space=%s)", name)
        finally:
            await asyncio.shield(self._release_all())

    async def _send(self, group: asyncio.TaskGroup) -> None:
        """Read and send until there is nothing left, or the worker stops."""
        failures = 0
        while not self._in_flight.stopping:
            self._in_flight.expect_change()
            try:
                if self._outdated:
                    self._outdated = False
                    if not await self._refresh():
                        return
                read = await self._read_more()
                failures, pause = 0, _IDLE_SECONDS
            except (StoreUnavailable, LockBusy) as error:
                failures += 1
                pause = backoff(failures, _FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
                log.info("database unavailable, retrying within %.1f s (stage=read): %s", pause, error)
                read, self._outdated = False, True
            sent = await self._send_one(group)
            if read or sent:
                continue
            if self._exhausted and not failures and self._in_flight.empty and not self._calls:
                return
            await self._wait_for_change(pause)

    async def _read_more(self) -> bool:
        """Read ahead, pending chunks first; False when there is no room, or nothing to read."""
        if self._in_flight.waiting >= READ_AHEAD_ROWS or self._exhausted or self._backend is None:
            return False
        if await self._reader.read_pending(self.space):
            return True
        if self._job is not None and await self._reader.read_range(self.space, self._job, self._backend):
            return True
        if await self._reader.read_quarantined(self.space):
            return True
        self._exhausted = True
        return False

    async def _refresh(self) -> bool:
        """Read what the Provider says by now, and which job is open; False when the space is gone."""
        async with self._store.connection() as conn:
            space = await spaces.get(conn, self.space.id)
            job = await jobs.running(conn, self.space.id)
        if space is None:
            return False
        self.space = space
        if space.state == "retired" and not space.kept:
            self._in_flight.stop()  # what still waits is wanted by nobody
        if self._job is not None and (job is None or job.id != self._job.id):
            await self._give_up_ranges()
        if job is not None and job.fresh_id is not None:
            await fresh.prepare(self._store, space, job.fresh_id)
        self._job = job
        self._sender.follow(space)
        return True

    async def _send_one(self, group: asyncio.TaskGroup) -> bool:
        """Let one call leave; False when none can."""
        in_flight, space = self._in_flight, self.space
        if not in_flight.waiting or not self._sender.may_send:
            return False
        at_risk = rows_at_risk(space.dimensions, self._job.total if self._job else 0, self._sender.call_seconds)
        most_texts = min(batch_limit(space.config), at_risk)
        if in_flight.sent + most_texts > at_risk:
            return False
        most_tokens, _ = token_limits(space.config)
        partly = self._exhausted or in_flight.waiting >= READ_AHEAD_ROWS
        estimate, of_ranges = self._sender.estimate, self._job_may_send
        batch = in_flight.next_batch(most_texts, most_tokens, estimate, partly=partly, of_ranges=of_ranges)
        if not batch:
            return False
        self._sender.enter()
        task = group.create_task(self._call(batch), name=f"call for {space.embedding_version}")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return True

    @property
    def _job_may_send(self) -> bool:
        """Whether a call for the job may leave: of one with pauses there is one at a time. Pending ones never wait."""
        if self._job is None or not self._job.sleep_ms:
            return True
        return not self._calls and self._clock() >= self._job_rests_until

    async def _call(self, batch: Sequence[Item]) -> None:
        of_ranges = any(item.claimed is not None for item in batch)
        job = self._job if of_ranges else None
        try:
            if of_ranges and job is None:  # it was paused, or ended, just now
                self._sender.not_tried()
                self._in_flight.put_back(batch)
                runs = False
            else:
                runs = await self._sender.call(batch, job)
        finally:
            self._sender.leave()
            if job is not None:
                self._job_rests_until = self._clock() + job.sleep_ms / 1000
            self._in_flight.wake()
        if not runs:
            await self._give_up_ranges()

    async def _wait_for_change(self, seconds: float) -> None:
        rests = (self._sender.rests_for, self._job_rests_until - self._clock())
        await self._in_flight.wait_for_change(min([seconds, *(rest for rest in rests if rest > 0)]))

    async def _drain(self) -> None:
        """Wait for the calls in flight and their commits."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                while self._calls or self._in_flight.unfinished:
                    self._in_flight.expect_change()
                    await self._wait_for_change(_IDLE_SECONDS)
        except TimeoutError:
            log.warning("stopped before %d rows that were sent were stored", self._in_flight.sent)

    async def _write(self) -> None:
        """Commit results as they come, on a connection of its own, which comes back when the server does."""
        name = self.space.embedding_version
        while True:
            try:
                async with self._store.dedicated("memory-worker") as conn:
                    async with terminate_after(conn, self._context.commit_seconds):
                        await conn.execute(transaction_limits(conn))
                        if self._backend is not None:
                            await leases.end_session(conn, self._backend)  # it may be at what was cut off
                        self._backend = await leases.backend_of(conn)
                        await leases.renew(conn, self._in_flight.leases, self._backend)
                    self._in_flight.wake()
                    await self._write_on(conn)
            except SpaceVanished:
                raise
            except (StoreUnavailable, LockBusy) as error:
                log.info("database unavailable, retrying in %g s (stage=write): %s", _WRITE_RETRY_SECONDS, error)
                await asyncio.sleep(_WRITE_RETRY_SECONDS)
            except Exception:
                # What is in flight is paid: starting again would pay it again, as often as it fails.
                log.exception("write failed, retrying in %g s (space=%s)", _LAST_RETRY_SECONDS, name)
                await asyncio.sleep(_LAST_RETRY_SECONDS)

    async def _write_on(self, conn: Conn) -> None:
        while True:
            results = await self._in_flight.next_results(self._size.rows)
            try:
                while results:
                    results = await self._commit(conn, results)
                    async with terminate_after(conn, self._context.commit_seconds):
                        await self._release(conn)
            finally:
                self._in_flight.put_results_back(results)  # those that were not committed

    async def _commit(self, conn: Conn, results: list[CallResult]) -> list[CallResult]:
        """Store the results of one job; those that are left. What belongs to ranges that were lost is dropped."""
        job, job_id = results[0].job, results[0].job_id
        part = [result for result in results if result.job_id == job_id]
        try:
            with (
                self._store.metrics.fill_stage_seconds.labels("write").time(),
                space_span("fill.write", self.space, job) as span,
            ):
                done = await self._store_part(conn, part, job)
                span.note(vectors=done.stored.new, copied=done.stored.copied, quarantined=done.quarantined)
        except LeaseLost as lost:
            self._store.metrics.fill_leases_lost.inc(len(lost.lost))
            log.info("%s", lost)
            self._in_flight.lose(lost.lost, results)
            return [self._in_flight.strip_lost(result) for result in results]
        for result in part:
            self._in_flight.settle(result)
        return [result for result in results if result.job_id != job_id]

    async def _store_part(self, conn: Conn, part: list[CallResult], job: Job | None) -> CommitResult:
        """Commit results, then the chunks with equal texts in slices. All of it may be repeated after a failure."""
        size, most_seconds = self._size, self._context.commit_seconds
        with size.measured(rows_of(part, size.rows)):
            async with translate_errors(), terminate_after(conn, most_seconds):
                done = await commit(conn, self.space, part, job, size.rows)
        count_commit(self._store.metrics, done, part)
        left = done.stored.left
        while left is not None:
            with size.measured(size.rows):
                async with translate_errors(), terminate_after(conn, most_seconds):
                    more = await commit_equals(conn, self.space, left, job, size.rows)
            count_commit(self._store.metrics, more, ())
            left = more.stored.left
        if done.stored.left is not None:
            async with translate_errors(), terminate_after(conn, most_seconds):
                await finish(conn, part)
        return done

    async def renew(self, conn: Conn) -> None:
        """Renew what is claimed, in time for nobody to take it over, on the connection of the worker's heartbeat."""
        claimed = self._in_flight.leases
        await missing.keep_pending(conn, self.space.id, self._context.presence)
        await self._release(conn)
        if claimed and self._backend is not None:
            self._in_flight.lose(await leases.renew(conn, claimed, self._backend))

    async def _give_up_ranges(self) -> None:
        """The job no longer runs: release what was claimed for it, once nothing is in flight there."""
        self._in_flight.give_up_ranges()
        self.look_again()
        try:
            async with self._store.connection() as conn:
                await self._release(conn)
        except (StoreUnavailable, LockBusy) as error:
            log.info("ranges not released, retrying with the next heartbeat: %s", error)

    async def _release(self, conn: Conn) -> None:
        """Release what is to be released; it stays on the list until it is."""
        given_up = self._in_flight.to_release
        if given_up:
            await leases.release(conn, given_up)
            self._in_flight.released(given_up)

    async def _release_all(self) -> None:
        """The end: nothing stays claimed, and the outcome of every call is in the ledger."""
        by_job: dict[int | None, list[Outcome]] = {}
        for result in self._in_flight.unwritten:
            by_job.setdefault(result.job_id, []).extend(result.outcomes)
        try:
            async with translate_errors(), asyncio.timeout(_RELEASE_SECONDS), self._store.transaction() as conn:
                for job_id, outcomes in by_job.items():
                    fresh = await ledger.complete(conn, outcomes)
                    if job_id is not None:
                        await ledger.spend(conn, job_id, fresh)
            async with translate_errors(), asyncio.timeout(_RELEASE_SECONDS), self._store.connection() as conn:
                await leases.release(conn, [*self._in_flight.leases, *self._in_flight.to_release])
                await missing.give_back_pending(conn, self.space.id, self._context.presence)
        except (StoreUnavailable, LockBusy) as error:
            log.info("ranges not released, their leases expire by themselves: %s", error)
