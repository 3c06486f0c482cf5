"""One call of a fill, from the question whether it may leave to what is made of its reply."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from memory_operator import metrics
from memory_operator.embedders import PROBE_TEXT, Embedder, Embeddings, calls_a_vendor
from memory_operator.engine.embedding.circuit_breaker import Breaker
from memory_operator.engine.embedding.connector import PROBE_SECONDS, Connector
from memory_operator.engine.embedding.metered import Metered, check_fit
from memory_operator.engine.embedding.spans import space_span
from memory_operator.engine.fill.batch import Item, TokenEstimate, shares
from memory_operator.engine.fill.concurrency import ConcurrencyLimit
from memory_operator.engine.fill.inflight import InFlight
from memory_operator.engine.fill.writer import CallResult
from memory_operator.errors import (
    BadReply,
    EmbedderUnreachable,
    LockBusy,
    MemoryOperatorError,
    RateLimited,
    RequestRejected,
    StoreUnavailable,
)
from memory_operator.logs import get_logger
from memory_operator.plan.space import BudgetConfig, LimitsConfig
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import limits
from memory_operator.store.usage.ledger import Intent, LedgerEntry, Share
from memory_operator.store.usage.limits import Granted, Wait

log = get_logger(__name__)

_TRUSTED_SECONDS = 5.0
"""A vendor that answered so recently is working: what it refuses is to blame itself."""
_UNUSABLE_TRIES = 3
"""Replies that cannot be used before a batch is halved: the fault may be the vendor's, and over by then."""
_FIRST_REST_SECONDS = 0.1
_LAST_REST_SECONDS = 4.0
_MOST_WAIT_SECONDS = 1.0
_SLOWER_BY = 1.001
"""So much a call, a vendor may have become slower than its quickest answer."""
_DENIALS_TOLD = 5
"""Refusals for too many calls in a row before people are told."""


@dataclass(frozen=True, slots=True)
class _Permit:
    """A call may leave, with these items of its batch."""

    batch: list[Item]
    entry: LedgerEntry | None
    """None for a model that computes in this process."""


class Sender:
    """Makes the calls of one fill; remembers what the vendor's replies say about how fast and whether to go on."""

    def __init__(self, store: Store, connector: Connector, space: Space, hand: InFlight, presence: int) -> None:
        self._store = store
        self._connector = connector
        self._space = space
        self._hand = hand
        self._presence = presence
        self._clock = asyncio.get_running_loop().time
        self.pace = ConcurrencyLimit(self._clock)
        self.estimate = TokenEstimate()
        self._failures = 0
        self._denials = 0
        self._answered_at = float("-inf")
        self.call_seconds = 0.0
        """How long the vendor takes for a call: the quickest seen, since others may have waited for us."""
        self._begun: int | None = None

    def follow(self, space: Space) -> None:
        """Use what the Provider says by now from the next call on."""
        self._space = space

    @property
    def may_send(self) -> bool:
        """Whether a call may leave now."""
        return self.pace.has_place(self._space.config.limits.concurrency) and self._breaker.closed_in == 0

    def enter(self) -> None:
        """Take a place for a call, which `call` follows."""
        self._breaker.admit(self._space.config.timeout_seconds)
        self.pace.enter()

    def not_tried(self) -> None:
        """The call that was to follow `enter` is not made."""
        self._breaker.not_tried()

    @property
    def rests_for(self) -> float:
        """Seconds until one may, as far as time is concerned."""
        return max(self.pace.rests_for, self._breaker.closed_in)

    @property
    def _breaker(self) -> Breaker:
        return self._connector.breaker(self._space.config)

    async def call(self, batch: Sequence[Item], job: Job | None) -> bool:
        """Make one call and hand its outcome on; False when the job no longer runs. Never raises for a vendor."""
        meter: Metered | None = None
        items = list(batch)
        try:
            embedder = await self._connector.embedder(self._space.config)
            leave = await self._acquire_permit(items, job)
            if leave is None:
                self._breaker.not_tried()
                self._hand.put_back(items)
                return False
            items = leave.batch
            meter = Metered(self._store, leave.entry) if leave.entry else None
            with space_span("fill.call", self._space, job, texts=len(items)) as span:
                reply = await self._embed(embedder, items, meter)
                span.note(tokens=reply.tokens)
        except (StoreUnavailable, LockBusy) as error:
            log.info("a call waits: %s", error)
            self._ended(meter, job)
            self._breaker.not_tried()
            self._hand.back(items)
            self.pace.rest(_FIRST_REST_SECONDS)
        except (RequestRejected, BadReply) as error:
            self._ended(meter, job)
            await self._refused(items, job, error)
        except MemoryOperatorError as error:
            self._ended(meter, job)
            self._hand.back(items)
            await self._failed(error)
        except BaseException:
            self._ended(meter, job)
            self._breaker.not_tried()
            self._hand.back(items)
            raise
        else:
            self._succeeded(items, reply, job, meter)
        finally:
            self._gauge()
        return True

    def _ended(self, meter: Metered | None, job: Job | None) -> None:
        """Have it written down how a call ended that brought nothing: before anything else, which may wait for it."""
        if meter is not None:
            self._hand.answer(CallResult(outcomes=meter.outcomes(), job=job))

    async def _embed(self, embedder: Embedder, items: Sequence[Item], meter: Metered | None) -> Embeddings:
        began = self._clock()
        with metrics.FILL_STAGE_SECONDS.labels("call").time():
            reply = await embedder.embed(
                [item.text for item in items],
                mode="document",
                timeout=self._space.config.timeout_seconds,
                dimensions=self._space.dimensions,
                meter=meter,
            )
        taken = self._clock() - began
        self.call_seconds = min(taken, self.call_seconds * _SLOWER_BY) if self.call_seconds else taken
        check_fit(self._space, reply)
        return reply

    def _succeeded(self, items: list[Item], reply: Embeddings, job: Job | None, meter: Metered | None) -> None:
        self._failures = self._denials = 0
        self._answered_at = self._clock()
        self._breaker.succeeded()
        self.pace.answered(len(items))
        self.estimate.learn(sum(item.size for item in items), reply.tokens)
        outcomes = meter.outcomes() if meter else ()
        self._hand.answer(CallResult(items, reply.vectors, outcomes=outcomes, job=job))

    async def _acquire_permit(self, batch: list[Item], job: Job | None) -> _Permit | None:
        """Wait until a call may leave, as far as limits, budget and job are concerned; None when the job stopped."""
        while True:
            config = self._space.config
            if not calls_a_vendor(config):
                return _Permit(batch, None) if job is None or await self._runs(job) else None
            if config.limits == LimitsConfig() and (job is None or config.budget == BudgetConfig()):
                async with self._store.connection() as conn:
                    found = await self._question(conn, batch, job)
            else:
                async with self._store.transaction() as conn:
                    found = await self._question(conn, batch, job)
            if not isinstance(found, Wait):
                return found
            if self._hand.stopping.is_set():
                return None
            await asyncio.sleep(min(found.seconds, _MOST_WAIT_SECONDS))

    async def _question(self, conn: Conn, batch: list[Item], job: Job | None) -> _Permit | Wait | None:
        space = self._space
        if job is not None and space.config.budget != BudgetConfig():
            left = await limits.budget_left(conn, space, job)
            fitting = self._fitting(batch, left.tokens)
            if not fitting:
                text = f"the budget is used up: {left.bound}; raise spec.embedding.budget to go on"
                if await jobs.pause_for_budget(conn, job.id, text, left.tokens or 0):
                    log.warning("%s: %s", space.ref, text, extra={"provider": str(space.ref)})
                return None
            self._hand.put_back(batch[len(fitting) :])
            del batch[len(fitting) :]
        if job is not None and self._begun != job.id:
            await jobs.begin_calls(conn, job.id)
            self._begun = job.id
        intent = Intent.of(space, "fill", shares(batch, self.estimate), job.id if job else None, self._presence)
        found = await limits.ask(conn, intent)
        if isinstance(found, Granted):
            return _Permit(batch, found.entry)
        return found if isinstance(found, Wait) else None

    def _fitting(self, batch: list[Item], tokens: int | None) -> list[Item]:
        """The first items of a batch, as many as so many tokens are estimated to pay for."""
        if tokens is None:
            return batch
        used = 0
        for place, item in enumerate(batch):
            used += self.estimate.tokens(item.size)
            if used > tokens:
                return batch[:place]
        return batch

    async def _runs(self, job: Job) -> bool:
        async with self._store.connection() as conn:
            if self._begun != job.id:
                await jobs.begin_calls(conn, job.id)
                self._begun = job.id
            return await jobs.is_running(conn, job.id)

    async def _refused(self, items: list[Item], job: Job | None, error: RequestRejected | BadReply) -> None:
        """A batch that was refused, or whose reply cannot be used, is halved until who is to blame stands alone."""
        self._breaker.not_tried()
        if isinstance(error, RequestRejected) and not error.about_the_texts:
            self._hand.back(items)
            await self._failed(error)
            return
        if isinstance(error, BadReply):
            for item in items:
                item.attempts += 1
            if items[0].attempts < _UNUSABLE_TRIES:
                self._hand.back(items)
                self.pace.rest(_FIRST_REST_SECONDS)
                return
        try:
            blamed = await self._still_works(job)
        except MemoryOperatorError as trouble:
            self._hand.back(items)
            await self._failed(trouble)
            return
        if not blamed:
            self._hand.back(items)
            await self._failed(error)
        elif len(items) > 1:
            self._hand.halve(items)
        else:
            self._hand.answer(CallResult(refused={items[0]: error.message}, job=job))

    async def _still_works(self, job: Job | None) -> bool:
        """Whether the embedder takes another text: else the texts that it refused are not to blame."""
        if self._clock() - self._answered_at < _TRUSTED_SECONDS:
            return True
        config = self._space.config
        embedder = await self._connector.embedder(config)
        meter = None
        if calls_a_vendor(config):
            meter = Metered(self._store, await self._turn_of_a_probe())
        try:
            reply = await embedder.embed(
                [PROBE_TEXT], mode="document", timeout=PROBE_SECONDS, dimensions=None, meter=meter
            )
        finally:
            if meter is not None:
                self._hand.answer(CallResult(outcomes=meter.outcomes(), job=job))
        if reply.vectors.shape[1] != self._space.dimensions:
            return False
        self._answered_at = self._clock()
        return True

    async def _turn_of_a_probe(self) -> LedgerEntry:
        """Wait until a probe may leave. Raises RateLimited when the worker stops before.

        It does not give way: the batch that is in doubt would take its turn, and be refused again, for ever.
        """
        while True:
            share = Share(None, 1, self.estimate.tokens(len(PROBE_TEXT)))
            intent = Intent.of(self._space, "probe", [share], None, self._presence)
            async with self._store.transaction() as conn:
                found = await limits.ask(conn, intent)
            if isinstance(found, Granted):
                return found.entry
            if self._hand.stopping.is_set() or not isinstance(found, Wait):
                raise RateLimited("a probe waits for its turn", retry_after=_MOST_WAIT_SECONDS)
            await asyncio.sleep(min(found.seconds, _MOST_WAIT_SECONDS))

    async def _failed(self, error: MemoryOperatorError) -> None:
        """Slow down after a call that brought nothing, and tell people when that goes on."""
        metrics.FILL_TROUBLES.labels(type(error).__name__).inc()
        log.info("a call for %s failed: %s", self._space.embedding_version, error)
        self._connector.forget(self._space.config, error)
        tell = True
        if isinstance(error, RateLimited):
            self._denials += 1
            self._breaker.not_tried()
            slower = _backoff(self._denials) if self.pace.limit == 1 else None
            self.pace.overloaded(error.retry_after if error.retry_after is not None else slower)
            tell = self._denials >= _DENIALS_TOLD
        elif isinstance(error, EmbedderUnreachable):
            self._failures += 1
            self.pace.overloaded(error.retry_after)
            self._breaker.failed(error)
            tell = self._breaker.is_open
            if self._failures > 1 and not tell:
                self.pace.rest(_backoff(self._failures - 1))
        else:
            self._failures += 1
            self._breaker.not_tried()
            self.pace.rest(_backoff(self._failures))
        if tell:
            await self._tell(error)

    async def _tell(self, error: MemoryOperatorError) -> None:
        """Keep why the embedder gives no vectors where the operator finds it."""
        message = self._breaker.text() if self._breaker.is_open else error.message
        text = f"{message}; {error.hint}" if error.hint else message
        try:
            async with self._store.transaction() as conn:
                await jobs.note_trouble(conn, self._space.id, type(error).__name__, text)
        except (StoreUnavailable, LockBusy) as unavailable:
            log.info("what is wrong with an embedder could not be kept: %s", unavailable)

    def _gauge(self) -> None:
        name = str(self._space.ref)
        metrics.FILL_CALLS_ALLOWED.labels(name).set(self.pace.limit)
        metrics.FILL_CALLS_IN_FLIGHT.labels(name).set(self.pace.in_flight)
        metrics.FILL_ROWS_IN_HAND.labels(name).set(self._hand.sent)
        metrics.CIRCUIT_OPEN.labels(name).set(self._breaker.is_open)


def _backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, with jitter, so that workers do not march in step."""
    return float(min(_LAST_REST_SECONDS, _FIRST_REST_SECONDS * 2 ** min(failures, 10)) * random.uniform(0.75, 1.25))
