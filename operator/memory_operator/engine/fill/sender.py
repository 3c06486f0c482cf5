"""One call of a fill, from the permit to send it to what is made of its reply: retries, halving, backoff."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memory_operator.backoff import backoff
from memory_operator.embedders import PROBE_TEXT, Embedder, Embeddings, batch_limit, calls_a_vendor, probe
from memory_operator.engine.embedding.circuit_breaker import Breaker
from memory_operator.engine.embedding.connector import PROBE_SECONDS, Connector
from memory_operator.engine.embedding.ledger_rows import LedgerRows
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
    Permanent,
    RateLimited,
    RequestRejected,
    StoreUnavailable,
)
from memory_operator.logs import get_logger
from memory_operator.plan.budget import UNSPENT, left
from memory_operator.plan.space import BudgetConfig, LimitsConfig
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import kept
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import limits
from memory_operator.store.usage.ledger import Intent, LedgerEntry, Purpose, Share
from memory_operator.store.usage.limits import Granted, Wait

log = get_logger(__name__)

_UNUSABLE_TRIES = 3
"""Replies that cannot be used before a batch is halved: the fault may be the vendor's, and over by then."""
_REFUSALS = 2
"""Failures of a text alone, each while others succeeded, before it is set aside: one may be the end of an outage."""
_FIRST_REST_SECONDS = 0.1
_LAST_REST_SECONDS = 4.0
_MOST_WAIT_SECONDS = 1.0
_SLOWER_BY = 1.001
"""So much a call, a vendor may have become slower than its quickest answer."""
_DENIALS_PUBLISHED = 5
"""Refusals for too many calls in a row before the status of the Provider says so."""


@dataclass(frozen=True, slots=True)
class _Permit:
    """A call may leave, with these items of its batch."""

    batch: list[Item]
    entry: LedgerEntry | None
    """None for a model that computes in this process."""


class Sender:
    """Makes the calls of one fill; keeps what the vendor's replies say about how many calls it takes."""

    def __init__(self, store: Store, connector: Connector, space: Space, in_flight: InFlight, presence: int) -> None:
        self._store = store
        self._rows = LedgerRows(store, durable=True)
        self._connector = connector
        self._space = space
        self._in_flight = in_flight
        self._presence = presence
        self._clock = asyncio.get_running_loop().time
        self._concurrency = ConcurrencyLimit(self._clock)
        self.estimate = TokenEstimate(len(space.config.document_prefix.encode()))
        self._failures = 0
        self._denials = 0
        self._succeeded_at = float("-inf")
        self.call_seconds = 0.0
        """How long the vendor takes for a call: the quickest seen, since others may have waited for us."""
        self._begun_job: int | None = None

    @property
    def was_answered(self) -> bool:
        """Whether any call succeeded."""
        return self._succeeded_at > float("-inf")

    def follow(self, space: Space) -> None:
        """Use what the Provider says by now from the next call on."""
        self._space = space

    @property
    def may_send(self) -> bool:
        """Whether a call may leave now."""
        return self._concurrency.has_place(self._space.config.limits.concurrency) and self._breaker.closed_in == 0

    def enter(self) -> None:
        """Take a place for a call, which `call` follows."""
        self._breaker.admit(self._space.config.timeout_seconds)
        self._concurrency.enter()

    def leave(self) -> None:
        """Give the place back: the call ended, whichever way."""
        self._concurrency.leave()

    def not_tried(self) -> None:
        """The call that was to follow `enter` is not made."""
        self._breaker.not_tried()

    @property
    def rests_for(self) -> float:
        """Seconds until one may, as far as time is concerned."""
        return max(self._concurrency.rests_for, self._breaker.closed_in)

    @property
    def _breaker(self) -> Breaker:
        return self._connector.breaker(self._space.config)

    async def call(self, batch: Sequence[Item], job: Job | None) -> bool:
        """Make one call and add its result; False when the job no longer runs. Never raises for a vendor."""
        meter: Metered | None = None
        items = list(batch)
        began = self._clock()
        try:
            embedder, proof = await self._connector.embedder_of(self._space)
            permit = await self._acquire_permit(items, job)
            if permit is None:
                self._breaker.not_tried()
                self._in_flight.put_back(items)
                return False
            if len(permit.batch) < len(items):
                self._in_flight.put_back(items[len(permit.batch) :])
                items = permit.batch
            meter = Metered(self._rows, permit.entry) if permit.entry else None
            began = self._clock()
            with space_span("fill.call", self._space, job, texts=len(items)) as span:
                reply = await self._embed(embedder, items, meter)
                span.note(tokens=reply.tokens)
            await self._connector.worked(self._store, self._space, proof)
        except (StoreUnavailable, LockBusy) as error:
            log.info("call not sent, retrying: %s", error)
            self._ended(meter, job)
            self._breaker.not_tried()
            self._in_flight.retry(items)
            self._concurrency.rest(_FIRST_REST_SECONDS)
        except (RequestRejected, BadReply) as error:
            self._ended(meter, job)
            await self._refused(items, job, error, began)
        except MemoryOperatorError as error:
            self._ended(meter, job)
            self._in_flight.retry(items)
            await self._failed(error)
        except BaseException:
            self._ended(meter, job)
            self._breaker.not_tried()
            self._in_flight.retry(items)
            raise
        else:
            self._succeeded(items, reply, job, meter)
        finally:
            self._gauge()
        return True

    def _ended(self, meter: Metered | None, job: Job | None) -> None:
        """Have the outcome of a call without vectors written: before anything else, which may wait for it."""
        if meter is not None:
            self._in_flight.add_result(CallResult(outcomes=meter.outcomes(), job=job))

    async def _embed(self, embedder: Embedder, items: Sequence[Item], meter: Metered | None) -> Embeddings:
        began = self._clock()
        with self._store.metrics.fill_stage_seconds.labels("call").time():
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
        return reply if meter is None else replace(reply, tokens=meter.tokens)

    def _succeeded(self, items: list[Item], reply: Embeddings, job: Job | None, meter: Metered | None) -> None:
        self._failures = self._denials = 0
        self._succeeded_at = self._clock()
        self._breaker.succeeded()
        self._concurrency.answered(len(items))
        self.estimate.learn([item.size for item in items], reply.tokens)
        outcomes = meter.outcomes() if meter else ()
        self._in_flight.add_result(CallResult(items, reply.vectors, outcomes=outcomes, job=job))

    async def _acquire_permit(self, batch: list[Item], job: Job | None) -> _Permit | None:
        """Wait until a call may leave, as far as limits, budget and job are concerned; None when the job stopped."""
        while True:
            config = self._space.config
            if not calls_a_vendor(config):
                return _Permit(batch, None) if job is None or await self._runs(job) else None
            if config.limits == LimitsConfig() and (job is None or config.budget == BudgetConfig()):
                async with self._store.connection() as conn:
                    found = await self._permit_or_wait(conn, batch, job)
            else:
                async with self._store.transaction() as conn:
                    found = await self._permit_or_wait(conn, batch, job)
            if not isinstance(found, Wait):
                return found
            if self._in_flight.stopping:
                return None
            await asyncio.sleep(min(found.seconds, _MOST_WAIT_SECONDS))

    async def _permit_or_wait(self, conn: Conn, batch: list[Item], job: Job | None) -> _Permit | Wait | None:
        """A permit for the first items of a batch, as many as the budget allows."""
        space, fitting = self._space, batch
        if job is not None and space.config.budget != BudgetConfig():
            room = await limits.budget_left(conn, space, job)
            fitting = self._fitting(batch, room.tokens)
            if not fitting and await limits.has_open_calls(conn, job.id, self._presence):
                return Wait(_FIRST_REST_SECONDS)
            if not fitting:
                text = f"the budget is used up: {room.bound}; raise spec.embedding.budget to go on"
                if await jobs.pause_for_budget(conn, job.id, text, self._room_to_resume(batch, job)):
                    log.warning("%s: %s", space.ref, text, extra={"provider": str(space.ref)})
                return None
        if job is not None:
            await self._begin_calls(conn, job)
        purpose: Purpose = "maintenance" if space.kept else "fill"
        intent = Intent.of(space, purpose, shares(fitting, self.estimate), job.id if job else None, self._presence)
        found = await limits.request(conn, intent)
        if isinstance(found, Granted):
            return _Permit(fitting, found.entry)
        return found if isinstance(found, Wait) else None

    def _room_to_resume(self, batch: list[Item], job: Job) -> int:
        """Tokens that must be left before a paused job is resumed: for a whole call, if the budget allows one at all.

        Calls in flight count as estimated, so that each of them that ends may leave room for a text or two.
        """
        config = self._space.config
        texts = max(len(batch), min(batch_limit(config), job.total - job.done))
        whole = sum(self.estimate.tokens(item.size) for item in batch) * texts // len(batch)
        return min(whole, left(config.budget, UNSPENT, config.input_cost_per_1k).tokens or 0)

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

    async def _begin_calls(self, conn: Conn, job: Job) -> None:
        if self._begun_job != job.id:
            await jobs.begin_calls(conn, job.id)
            self._begun_job = job.id

    async def _runs(self, job: Job) -> bool:
        async with self._store.connection() as conn:
            await self._begin_calls(conn, job)
            return await jobs.is_running(conn, job.id)

    async def _refused(
        self, items: list[Item], job: Job | None, error: RequestRejected | BadReply, began: float
    ) -> None:
        """A batch that was refused, or whose reply cannot be used, is halved until the text at fault stands alone.

        That text is set aside once it has failed so while others succeeded: while none does, the vendor is at fault.
        """
        self._breaker.not_tried()
        if isinstance(error, RequestRejected) and not error.about_the_texts:
            self._in_flight.retry(items)
            await self._failed(error)
            return
        if isinstance(error, BadReply):
            for item in items:
                item.unusable += 1
            if len(items) > 1 and items[0].unusable < _UNUSABLE_TRIES:
                self._in_flight.retry(items)
                self._concurrency.rest(_FIRST_REST_SECONDS)
                return
        try:
            works = await self._works_for_others(job, began)
        except MemoryOperatorError as failed:
            self._in_flight.retry(items)
            await self._failed(failed)
            return
        if not works:
            self._in_flight.retry(items)
            await self._failed(error)
        elif len(items) > 1:
            self._in_flight.retry_in_halves(items)
        else:
            self._refused_alone(items[0], job, error)

    def _refused_alone(self, item: Item, job: Job | None, error: MemoryOperatorError) -> None:
        item.refusals += 1
        if item.refusals < _REFUSALS:
            self._in_flight.retry([item])
        else:
            self._in_flight.add_result(CallResult(refused={item: error.message}, job=job))

    async def _works_for_others(self, job: Job | None, began: float) -> bool:
        """Whether another text succeeded since a call began that failed; the text of a probe, where none was sent."""
        if self._succeeded_at > began:
            return True
        config = self._space.config
        embedder, _ = await self._connector.embedder_of(self._space)
        meter = None
        if calls_a_vendor(config):
            meter = Metered(self._rows, await self._permit_for_probe())
        try:
            length = await probe(embedder, PROBE_SECONDS, meter)
        finally:
            if meter is not None:
                self._in_flight.add_result(CallResult(outcomes=meter.outcomes(), job=job))
        if length != self._space.dimensions:
            return False
        self._succeeded_at = self._clock()
        return True

    async def _permit_for_probe(self) -> LedgerEntry:
        """Wait until a probe may leave. Raises RateLimited when the worker stops before.

        It does not yield to other calls: the batch in doubt would be sent first, and be refused again, for ever.
        """
        while True:
            share = Share(None, 1, self.estimate.tokens(len(PROBE_TEXT)))
            intent = Intent.of(self._space, "probe", [share], None, self._presence)
            async with self._store.transaction() as conn:
                found = await limits.request(conn, intent)
            if isinstance(found, Granted):
                return found.entry
            if self._in_flight.stopping or not isinstance(found, Wait):
                raise RateLimited("a probe waits for its turn", retry_after=_MOST_WAIT_SECONDS)
            await asyncio.sleep(min(found.seconds, _MOST_WAIT_SECONDS))

    async def _failed(self, error: MemoryOperatorError) -> None:
        """Slow down after a call that brought nothing, and publish the error when that goes on."""
        self._store.metrics.fill_troubles.labels(type(error).__name__).inc()
        log.info("call failed, retrying (space=%s): %s", self._space.embedding_version, error)
        self._connector.forget(self._space.config, error)
        await self._connector.failed(self._store, self._space, error)
        publish = True
        if isinstance(error, RateLimited):
            self._denials += 1
            self._breaker.not_tried()
            slower = _pause_after(self._denials) if self._concurrency.limit == 1 else None
            self._concurrency.overloaded(error.retry_after if error.retry_after is not None else slower)
            publish = self._denials >= _DENIALS_PUBLISHED
        elif isinstance(error, EmbedderUnreachable):
            self._failures += 1
            self._concurrency.overloaded(error.retry_after)
            self._breaker.failed(error)
            publish = self._breaker.is_open
            if self._failures > 1 and not publish:
                self._concurrency.rest(_pause_after(self._failures - 1))
        else:
            self._failures += 1
            self._breaker.not_tried()
            self._concurrency.rest(_pause_after(self._failures))
        if publish:
            await self._publish(error)

    async def _publish(self, error: MemoryOperatorError) -> None:
        """Store why the embedder gives no vectors, where the operator finds it."""
        message = self._breaker.text() if self._breaker.is_open else error.message
        text = f"{message}; {error.hint}" if error.hint else message
        try:
            async with self._store.transaction() as conn:
                await jobs.note_last_error(conn, self._space.id, type(error).__name__, text)
                if (
                    isinstance(error, Permanent)
                    and not isinstance(error, BadReply)
                    and await kept.end(conn, self._space.id, text)
                ):
                    log.warning("%s is kept no longer: %s", self._space.embedding_version, text)
                    await jobs.wake(conn)
        except (StoreUnavailable, LockBusy) as unavailable:
            log.info("the error of an embedder was not stored: %s", unavailable)

    def _gauge(self) -> None:
        name, metrics = str(self._space.ref), self._store.metrics
        metrics.fill_calls_allowed.labels(name).set(self._concurrency.limit)
        metrics.fill_calls_in_flight.labels(name).set(self._concurrency.in_flight)
        metrics.fill_rows_in_hand.labels(name).set(self._in_flight.sent)
        metrics.circuit_open.labels(name).set(self._breaker.is_open)


def _pause_after(failures: int) -> float:
    return backoff(failures, 2 * _FIRST_REST_SECONDS, _LAST_REST_SECONDS, jitter=0.25)
