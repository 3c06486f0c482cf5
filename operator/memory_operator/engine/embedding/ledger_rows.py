"""When the rows of calls are written: before each call, or for queries in batches, about once a second."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from memory_operator.backoff import backoff, first_of, wait_for_event
from memory_operator.errors import MemoryOperatorError, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.plan.space import BudgetConfig
from memory_operator.store.db.pool import Store
from memory_operator.store.usage import ledger
from memory_operator.store.usage.ledger import Intent, LateRow, LedgerEntry, Outcome

log = get_logger(__name__)

BATCH_SECONDS = 1.0
"""How long a row of a query may wait to be written: what the death of a process may lose."""

MOST_WAITING = 10_000
"""Rows that are kept, as while the database is away."""

_ROWS_PER_STATEMENT = 1_000
_LONGEST_RETRY_SECONDS = 5.0
STOP_SECONDS = 10.0
"""How long a stop waits for a database that is away."""


class LedgerRows:
    """The row of each call is written before it leaves, and completed when it has ended."""

    def __init__(self, store: Store, *, durable: bool = False) -> None:
        """`durable` as for `ledger.intend`."""
        self.store = store
        self._durable = durable

    async def begin(self, intent: Intent) -> LedgerEntry:
        """Take down a call that is about to leave. Raises StoreUnavailable, also where its job no longer runs."""
        async with self.store.connection() as conn:
            entry = await ledger.intend(conn, intent, durable=self._durable)
        if entry is None:
            raise StoreUnavailable("a call could not be written down")
        return entry

    async def end(self, outcomes: Sequence[Outcome]) -> None:
        """Take down how calls ended; where that fails they are marked unanswered in time."""
        try:
            async with self.store.connection() as conn:
                fresh = await ledger.complete(conn, outcomes, durable=False)
                if of_day := [outcome for outcome in fresh if _counts_for_the_day(outcome.entry.intent)]:
                    await ledger.spend_of_day(conn, of_day)
        except MemoryOperatorError as error:
            self.store.metrics.ledger_failures.inc()
            log.warning("how a call ended could not be written down: %s", error)
        else:
            self._count(outcomes)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.store.metrics.calls.labels(outcome.entry.intent.purpose, outcome.ending).inc()


def _counts_for_the_day(intent: Intent) -> bool:
    """Whether a call outside a fill is part of what its Provider may use in a day."""
    return intent.purpose in ("rerank", "compare", "rehearse") and intent.config.budget != BudgetConfig()


@dataclass(slots=True)
class _Waiting:
    """A call of a query whose row is not in the ledger as it is by now."""

    entry: LedgerEntry
    began: float
    written: bool = False
    """As under way."""
    outcome: Outcome | None = None
    ended: float = 0.0

    @property
    def due(self) -> bool:
        return self.outcome is not None or not self.written

    def row(self, now: float) -> LateRow:
        return LateRow(self.entry, now - self.began, self.outcome, now - self.ended)


class QueryRows(LedgerRows):
    """Rows of queries: written afterwards while `in_batches` runs, else before each call. One for each event loop."""

    def __init__(self, store: Store, most: int = MOST_WAITING, stop_seconds: float = STOP_SECONDS) -> None:
        """With `most` of them waiting, further ones are written before their call."""
        super().__init__(store)
        self._most = most
        self._stop_seconds = stop_seconds
        self._waiting: dict[UUID, _Waiting] = {}
        self._some = asyncio.Event()
        """Set while something is due."""
        self._batching = False

    async def begin(self, intent: Intent) -> LedgerEntry:
        """As it says there; without a statement as long as few rows wait."""
        if not self._batching or len(self._waiting) >= self._most:
            return await super().begin(intent)
        entry = LedgerEntry(uuid4(), (), intent)
        self._waiting[entry.call_id] = _Waiting(entry, asyncio.get_running_loop().time())
        self._some.set()
        return entry

    async def end(self, outcomes: Sequence[Outcome]) -> None:
        """As it says there."""
        written = []
        for outcome in outcomes:
            row = self._waiting.get(outcome.entry.call_id)
            if row is None:
                written.append(outcome)
                continue
            row.outcome, row.ended = outcome, asyncio.get_running_loop().time()
            self._some.set()
            self._count([outcome])
        if written:
            await super().end(written)

    @asynccontextmanager
    async def in_batches(self) -> AsyncIterator[None]:
        """Write rows about once a second from now on; at the end all that are left."""
        stop = asyncio.Event()
        writing = asyncio.create_task(self._keep_writing(stop), name="ledger rows of queries")
        self._batching = True
        try:
            yield
        finally:
            self._batching = False
            stop.set()
            await writing

    async def _keep_writing(self, stop: asyncio.Event) -> None:
        failures = 0
        try:
            while not stop.is_set():
                await first_of(self._some, stop)
                pause = backoff(failures, BATCH_SECONDS, _LONGEST_RETRY_SECONDS) if failures else BATCH_SECONDS
                await wait_for_event(stop, pause)
                failures = 0 if await self._write() else failures + 1
            async with asyncio.timeout(self._stop_seconds):
                for _ in itertools.count():
                    if await self._write():
                        break
                    await asyncio.sleep(BATCH_SECONDS)
        except TimeoutError:
            log.warning("the database stays unavailable, the ledger lacks rows of queries")
        finally:
            self.store.metrics.ledger_failures.inc(sum(row.due for row in self._waiting.values()))

    async def _write(self) -> bool:
        """Write what is due; whether the database took it."""
        self._some.clear()
        due = [row for row in self._waiting.values() if row.due]
        try:
            for start in range(0, len(due), _ROWS_PER_STATEMENT):
                await self._write_some(due[start : start + _ROWS_PER_STATEMENT])
        except MemoryOperatorError as error:
            self._some.set()
            self.store.metrics.ledger_retries.inc()
            log.warning("database unavailable, retrying (stage=ledger of queries, rows=%d): %s", len(due), error)
            return False
        return True

    async def _write_some(self, due: Sequence[_Waiting]) -> None:
        """Write these rows; one that the database refuses keeps none of the others."""
        now = asyncio.get_running_loop().time()
        rows = [row.row(now) for row in due]
        try:
            async with self.store.connection() as conn:
                await ledger.write_late(conn, rows)
        except MemoryOperatorError:
            raise
        except Exception:
            if len(due) > 1:
                for one in due:
                    await self._write_some([one])
                return
            self.store.metrics.ledger_failures.inc()
            log.exception("a row of a query cannot be written to the ledger")
        for waiting, row in zip(due, rows, strict=True):
            waiting.written = True
            if row.outcome is not None:
                self._waiting.pop(row.entry.call_id, None)
