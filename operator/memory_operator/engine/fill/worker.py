"""The worker's loop: a fill for each space that has work, the end of fills, indexes; how it waits, how it stops."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial

from memory_operator.backoff import backoff, first_of, wait_for_event
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.fill import rebuilds
from memory_operator.engine.fill.completion import complete_exhausted
from memory_operator.engine.fill.dispersions import DispersionMeasure
from memory_operator.engine.fill.fingerprints import ModelDrift
from memory_operator.engine.fill.gates import Gates
from memory_operator.engine.fill.index_builds import IndexBuilds
from memory_operator.engine.fill.indexes import reconcile_indexes
from memory_operator.engine.fill.maintenance import maintain_jobs
from memory_operator.engine.fill.pipeline import DRAIN_SECONDS, SpaceFill, WorkerContext
from memory_operator.engine.fill.rechunk import rechunk_one_range
from memory_operator.engine.fill.rewrite_words import rewrite_one_slice
from memory_operator.engine.fill.trials import Trials
from memory_operator.errors import Retryable, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics
from memory_operator.settings import WorkerSettings
from memory_operator.store.db import locks
from memory_operator.store.db.listen import listen
from memory_operator.store.db.pool import Store, terminate_after, translate_errors
from memory_operator.store.jobs import jobs, leases, missing, quarantine
from memory_operator.store.memories import text_sums
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import spaces
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.spaces.vectors import COPY_SECONDS
from memory_operator.store.usage import rollup

log = get_logger(__name__)

_IDLE_SECONDS = 1.0
_CLOSING_SECONDS = 0.1
"""Between two looks at a fill that is about to be completed."""
_PRESENCE_SECONDS = 5.0
_HEARTBEAT_SECONDS = leases.LEASE_SECONDS / 3
_HEARTBEAT_CUT_OFF_SECONDS = 4.0
_FIRST_BACKOFF_SECONDS = 0.4
_LAST_BACKOFF_SECONDS = 5.0
_LAG_STEP_SECONDS = 0.05
_LAG_WINDOW = 1_200
"""Steps that the longest delay is taken over: a minute."""

_TURN_SECONDS = 10.0
_DEFAULTS = WorkerSettings()

Step = Callable[[], Awaitable[bool]]
"""Does one piece of work; False when there was none."""


class Worker:
    """Fills and indexes spaces until it is stopped. Any number may run, in any number of processes."""

    def __init__(
        self,
        store: Store,
        connector: Connector,
        keys: KeyRing,
        name: str,
        *,
        settings: WorkerSettings = _DEFAULTS,
        commit_seconds: float = COPY_SECONDS,
        turn_seconds: float = _TURN_SECONDS,
    ) -> None:
        self._store = store
        self._context = WorkerContext(store, connector, keys, name, secrets.randbits(31), commit_seconds)
        self._wakes: dict[str, asyncio.Event] = {}
        self._present = asyncio.Event()
        self._fills: dict[int, tuple[SpaceFill, asyncio.Task[None]]] = {}
        self._most_fills = min(settings.fills_at_once, store.pool_size)
        """Each has a connection of its own to write with, and some of the pool's."""
        self._most_slow = max(1, self._most_fills // 2)
        """Fills beside them that only wait for their embedder, so that no silent vendor keeps other spaces waiting."""
        self._turn_seconds = turn_seconds
        self._unanswered: set[int] = set()
        """Spaces whose embedder answered no call of their last turn."""
        self._trials = Trials(self._context, self._unanswered.add, lambda: self._wakes["filler"].set())
        self._ledger_days = settings.ledger_days
        self._began: dict[int, float] = {}
        """When the last fill of each space began."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Calls in flight are then answered and stored; nothing is committed in part."""
        async with asyncio.TaskGroup() as group:
            builds = IndexBuilds(group, self._wake)
            present = group.create_task(self._presence_heartbeat(), name="presence")
            await self._wait_for_presence(stop)
            heartbeat = group.create_task(self._heartbeat(), name="heartbeat")
            tasks = [group.create_task(self._repeat(*step), name=step[0]) for step in self._steps(builds).items()]
            tasks.append(group.create_task(self._listen(), name="work listener"))
            tasks.append(group.create_task(_measure_lag(self._store.metrics), name="loop lag"))
            await stop.wait()
            for task in tasks:
                task.cancel()  # nothing further is begun; what waits for a silent server does so beside the fills
            builds.cancel()
            await self._stop_fills()
            heartbeat.cancel()
            present.cancel()

    def _steps(self, builds: IndexBuilds) -> dict[str, Step]:
        return {
            "filler": self._fill,
            "completer": partial(self._complete, builds),
            "indexer": partial(self._reconcile_indexes, builds),
            "job maintenance": self._maintain_jobs,
            "rechunker": self._rechunk,
            "word rewriter": self._rewrite_words,
            "dispersions": DispersionMeasure(self._store).measure,
            "model checks": ModelDrift(self._context).check_one,
            "gates": Gates(self._store, self._context.connector, self._context.keys).measure,
            "ledger": self._roll_up_ledger,
            "text sums": self._add_up_texts,
        }

    async def _stop_fills(self) -> None:
        running = [task for _, task in self._fills.values()]
        for fill, _ in self._fills.values():
            fill.stop()
        if running:
            _, late = await asyncio.wait(running, timeout=DRAIN_SECONDS + 2)
            for task in late:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        await self._trials.stop()

    async def _presence_heartbeat(self) -> None:
        """Keep the lock that says that this worker lives; take it again after the database was restarted."""
        while True:
            try:
                async with locks.presence(self._store, self._context.presence) as conn:
                    self._present.set()
                    while True:
                        await asyncio.sleep(_PRESENCE_SECONDS)
                        await locks.ping(conn)
            except StoreUnavailable as error:
                log.info("database unavailable, retrying in %g s (stage=presence): %s", _IDLE_SECONDS, error)
                await asyncio.sleep(_IDLE_SECONDS)

    async def _heartbeat(self) -> None:
        """Renew what all fills have claimed, on a connection of its own: those of the pool may be hard to get."""
        while True:
            try:
                async with self._store.dedicated("memory-heartbeat") as conn:
                    while True:
                        for fill, _ in list(self._fills.values()):
                            async with translate_errors(), terminate_after(conn, _HEARTBEAT_CUT_OFF_SECONDS):
                                await fill.renew(conn)
                        await asyncio.sleep(_HEARTBEAT_SECONDS)
            except Retryable as error:
                log.info("leases not renewed, retrying in %g s: %s", _IDLE_SECONDS, error)
                await asyncio.sleep(_IDLE_SECONDS)

    async def _wait_for_presence(self, stop: asyncio.Event) -> None:
        """Claim nothing before others can see that this worker lives."""
        await first_of(stop, self._present)

    async def _listen(self) -> None:
        async with aclosing(listen(self._store, "memory-worker-listen", (jobs.CHANNEL,))) as heard:
            async for _ in heard:
                self._wake()

    def _wake(self) -> None:
        for event in self._wakes.values():
            event.set()
        for fill, _ in self._fills.values():
            fill.look_again()

    async def _repeat(self, name: str, step: Step) -> None:
        """Repeat a step: at once while there is work, else when woken or after a second."""
        failures = 0
        wake = self._wakes[name] = asyncio.Event()
        while True:
            wake.clear()
            try:
                busy = await step()
                failures = 0
            except Retryable as error:  # no database, a lock, or a space that was discarded meanwhile
                failures += 1
                log.info("%s failed, retrying: %s", name, error)
                busy = False
            except Exception:
                failures += 1
                log.exception("%s failed, retrying", name)
                busy = False
            if failures:
                await asyncio.sleep(backoff(failures, _FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS))
            elif not busy:
                await wait_for_event(wake, _IDLE_SECONDS)

    async def _fill(self) -> bool:
        """See that each space with work has a fill, which looks again for more now and then."""
        async with self._store.connection() as conn:
            live = {space.id: space for space in await spaces.all_spaces(conn)}
            wanted = await leases.claimable(conn)
            active = {space_id for space_id, space in live.items() if space.gets_vectors}
            wanted |= set(await missing.pending(conn, active))
            wanted |= await quarantine.due(conn, active)
        wanted &= live.keys()
        for space_id in wanted & self._fills.keys():
            self._fills[space_id][0].look_again()
        waiting = sorted(wanted - self._fills.keys(), key=lambda space_id: self._began.get(space_id, 0.0))
        for space in (live[space_id] for space_id in waiting):
            if self._has_room(space):
                self._begin(space)
            elif space.id not in self._unanswered and not self._trials.is_known(space):
                self._trials.begin(space)
        waiting = [each for each in waiting if each not in self._fills and not self._trials.is_running(each)]
        answered = sum(space_id not in self._unanswered for space_id in waiting)
        self._end_turns(answered + min(len(waiting) - answered, self._most_slow - self._slow))
        return False

    @property
    def _slow(self) -> int:
        """Fills that wait for an embedder which may not answer."""
        return sum(fill.leaving or space_id in self._unanswered for space_id, (fill, _) in self._fills.items())

    def _has_room(self, space: Space) -> bool:
        """Whether a fill of a space may begin. Those whose vendor may never answer get a share of the places only."""
        slow = self._slow
        if space.id in self._unanswered:
            if slow >= self._most_slow:
                return False
        elif not self._trials.is_known(space):
            unknown = sum(not self._trials.is_known(fill.space) for fill, _ in self._fills.values())
            if unknown >= self._most_slow:
                return False
        return len(self._fills) - min(slow, self._most_slow) < self._most_fills

    def _begin(self, space: Space) -> None:
        self._began[space.id] = asyncio.get_running_loop().time()
        fill = SpaceFill(self._context, space)
        task = asyncio.create_task(fill.run(), name=f"fill of {space.embedding_version}")
        self._fills[space.id] = (fill, task)
        task.add_done_callback(lambda task: self._ended(space.id, task))

    def _end_turns(self, waiting: int) -> None:
        """Let as many fills end as spaces wait for a turn, those first that began first."""
        now = asyncio.get_running_loop().time()
        staying = [space_id for space_id, (fill, _) in self._fills.items() if not fill.leaving]
        over = [space_id for space_id in staying if now - self._began[space_id] >= self._turn_seconds]
        for space_id in sorted(over, key=self._began.__getitem__)[: max(0, waiting)]:
            self._fills[space_id][0].end_turn()

    def _ended(self, space_id: int, task: asyncio.Task[None]) -> None:
        fill, _ = self._fills.pop(space_id)
        if fill.unanswered:
            self._unanswered.add(space_id)
        else:
            self._unanswered.discard(space_id)
        if not task.cancelled() and (error := task.exception()):
            log.error("fill failed, starting again (space=%d)", space_id, exc_info=error)
        self._wakes["filler"].set()
        self._wakes["completer"].set()

    async def _complete(self, builds: IndexBuilds) -> bool:
        if not await complete_exhausted(self._store, builds):
            return False
        await asyncio.sleep(_CLOSING_SECONDS)
        return True

    async def _reconcile_indexes(self, builds: IndexBuilds) -> bool:
        await reconcile_indexes(self._store, builds)
        await rebuilds.drop_left_over(self._store)
        return False

    async def _maintain_jobs(self) -> bool:
        await maintain_jobs(self._store)
        return False

    async def _roll_up_ledger(self) -> bool:
        async with self._store.connection() as conn:
            if not await rollup.is_due(conn, self._ledger_days):
                return False
        async with self._store.transaction() as conn:
            return await rollup.roll_up(conn, self._ledger_days) > 0

    async def _add_up_texts(self) -> bool:
        await text_sums.backfill_slice(self._store)
        return False  # one slice a second: writers wait for each

    async def _rechunk(self) -> bool:
        context = self._context
        return await rechunk_one_range(context.store, context.keys, context.name, context.presence)

    async def _rewrite_words(self) -> bool:
        return await rewrite_one_slice(self._context.store, self._context.keys)


async def _measure_lag(metrics: Metrics) -> None:
    """Keep the longest delay of this event loop: heartbeats and queries beside a fill depend on it."""
    loop = asyncio.get_running_loop()
    window: deque[float] = deque(maxlen=_LAG_WINDOW)
    while True:
        before = loop.time()
        await asyncio.sleep(_LAG_STEP_SECONDS)
        window.append(loop.time() - before - _LAG_STEP_SECONDS)
        metrics.loop_lag.set(max(window))
