"""The gate before a switch: the space of an edit is compared with the one that answers, and has to be good enough.

The comparison writes nothing but its calls to the ledger, so that it may die at any moment and is then made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from memory_operator.backoff import backoff
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.fill.indexes import WORKER
from memory_operator.engine.memories.compare import MOST_QUESTIONS, Comparer
from memory_operator.engine.memories.sides import ComparedAnswers, Found, KnownQuestion, Question
from memory_operator.engine.spaces.activation import coverage_is_comparable, switch
from memory_operator.errors import Conflict, LockBusy, MemoryOperatorError, NotFound
from memory_operator.logs import get_logger
from memory_operator.measuring.side_by_side import QuestionResult, SideResult, Summary, summarise
from memory_operator.plan.gate import figures, reasons_against
from memory_operator.store.db import activity, locks
from memory_operator.store.db.pool import Store
from memory_operator.store.memories import counts
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import gates, providers, registry, spaces
from memory_operator.store.spaces.gates import DueGate

log = get_logger(__name__)

_K = 10
_SEED = 1
_MOST_TENANTS = 10
"""The largest ones are asked about."""
_FIRST_BACKOFF_SECONDS = 5.0
_LAST_BACKOFF_SECONDS = 300.0


class Gates:
    """Measures the spaces that wait for it, one after the other. One for each worker."""

    def __init__(self, store: Store, connector: Connector, keys: KeyRing) -> None:
        self._store = store
        self._comparer = Comparer(store, connector, keys)
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}

    async def measure(self) -> bool:
        """Measure those that are due; False: what comes next is announced. Raises StoreUnavailable."""
        async with self._store.connection() as conn:
            waiting = await gates.all_due(conn)
        now = asyncio.get_running_loop().time
        for due in waiting:
            if self._not_before.get(due.space_id, 0.0) > now():
                continue
            try:
                async with locks.gate_lock(self._store, due.space_id):
                    await self._measure(due)
            except LockBusy:
                self._not_before[due.space_id] = now() + _FIRST_BACKOFF_SECONDS
            except MemoryOperatorError as error:
                failures = self._failures[due.space_id] = self._failures.get(due.space_id, 0) + 1
                pause = backoff(failures, _FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS)
                self._not_before[due.space_id] = now() + pause
                if isinstance(error, Conflict):
                    await self._note_unmeasured(due, error)
                log.info("space not measured, retrying in %.0f s (space=%s): %s", pause, due.version, error)
            else:
                self._failures.pop(due.space_id, None)
        return False

    async def _measure(self, due: DueGate) -> None:
        """Compare, decide, and switch where it is good enough."""
        async with self._store.connection() as conn:
            if due not in await gates.all_due(conn):
                return  # another worker has measured it meanwhile
        results = await self._results(due)
        summary = await asyncio.to_thread(summarise, results, _K, _SEED) if results else None
        await self._decide(due, summary)

    async def _results(self, due: DueGate) -> list[QuestionResult]:
        """What both spaces answer to known items of the largest tenants."""
        async with self._store.connection() as conn:
            tenants = await counts.largest_tenants(conn, _MOST_TENANTS)
        results: list[QuestionResult] = []
        names = (due.against, due.version)
        for tenant in tenants:
            try:
                compared = await self._comparer.compared(tenant, names, None)
            except (Conflict, NotFound) as error:
                log.info("tenant left out of a measurement (space=%s): %s", due.version, error)
                continue
            drawn = await self._comparer.draw(compared, -(-due.gate.questions // len(tenants)), _SEED)
            for project in sorted({question.project for question in drawn}):
                of_project = [question for question in drawn if question.project == project]
                results += await self._answers_to(tenant, names, project, of_project)
        return results

    async def _answers_to(
        self, tenant: str, names: tuple[str, str], project: str, questions: Sequence[KnownQuestion]
    ) -> list[QuestionResult]:
        results: list[QuestionResult] = []
        while len(results) < len(questions):
            compared = await self._comparer.compared(tenant, names, project)
            some = questions[len(results) : len(results) + MOST_QUESTIONS]
            answers = await self._comparer.ask(compared, [Question(one.text, one.answers) for one in some], _K)
            results += [_result(question, answer) for question, answer in zip(some, answers, strict=False)]
        return results

    async def _note_unmeasured(self, due: DueGate, error: Conflict) -> None:
        """Keep why a space cannot be compared: where the old model is gone, somebody has to decide."""
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            known = await gates.result(conn, due.space_id)
            if known is None or known.message != error.message:
                await gates.record(conn, due, error.message, passed=False, measured=False)
                await registry.announce(conn)

    async def _decide(self, due: DueGate, summary: Summary | None) -> None:
        reasons = reasons_against(due.gate, summary) if summary else []
        measured = figures(summary) if summary else "there is no memory to compare by"
        message = "; ".join([*reasons, measured])
        passed = not reasons
        async with self._store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            if not await gates.record(conn, due, message, passed=passed):
                return  # something else is asked for by now
            row, space = await providers.by_space(conn, due.space_id), await spaces.get(conn, due.space_id)
            kind = "gate-passed" if passed else "gate-not-passed"
            await activity.record(conn, WORKER, kind, due.version, against=due.against, message=message)
            if passed and row and space and space.state == "ready":
                if coverage_is_comparable(row, space, await registry.counted(conn)):
                    await switch(conn, row, space, WORKER)
                else:
                    log.warning("%s lacks what its embedder refuses; activate it by hand", due.version)
            await registry.announce(conn)
        log.info("space measured (space=%s, against=%s, passed=%s): %s", due.version, due.against, passed, message)


def _result(question: KnownQuestion, answer: ComparedAnswers) -> QuestionResult:
    sides = (_side(answer.found[0]), _side(answer.found[1]))
    return QuestionResult(sides, {str(one): 1 for one in question.answers}, [str(memory) for memory in answer.missing])


def _side(found: Found) -> SideResult:
    return SideResult(
        [str(one) for one in found.fused],
        [str(one) for one in found.semantic],
        search_ms=1000 * found.search_seconds,
        tokens=found.tokens,
        index_recall=found.index_recall,
    )
