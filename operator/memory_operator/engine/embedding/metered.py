"""One call to a vendor, with its row in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from memory_operator import traces
from memory_operator.contract.resource import ProviderRef
from memory_operator.embedders import PROBE_TEXT, Embeddings, Relevance, calls_a_vendor, probe, with_prefix
from memory_operator.engine.embedding.circuit_breaker import Breaker
from memory_operator.engine.embedding.connector import PROBE_SECONDS, Connector
from memory_operator.engine.embedding.ledger_rows import LedgerRows
from memory_operator.engine.embedding.spans import space_span
from memory_operator.errors import (
    BadReply,
    BudgetReached,
    EmbedderUnreachable,
    MemoryOperatorError,
    RateLimited,
    SourceUnavailable,
)
from memory_operator.logs import get_logger
from memory_operator.memory.chunking import estimate_tokens
from memory_operator.plan.cost import believable, split
from memory_operator.plan.space import BudgetConfig, CallConfig, LimitsConfig, Mode, RerankConfig, SpaceConfig
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import vectors
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import limits
from memory_operator.store.usage.ledger import Ending, Intent, LedgerEntry, Outcome, Share
from memory_operator.store.usage.limits import Granted, Wait

log = get_logger(__name__)

T = TypeVar("T")


class Metered:
    """The requests of one `embed`: the first has its row already, each further one gets a row of its own."""

    def __init__(self, rows: LedgerRows, entry: LedgerEntry) -> None:
        self._rows = rows
        self._texts = max(1, sum(share.inputs for share in entry.intent.shares))
        self._next: LedgerEntry | None = entry
        self._open: LedgerEntry | None = None
        self._entry = entry
        self._outcomes: list[Outcome] = []

    async def sending(self, inputs: int) -> None:
        """See `Meter.sending`."""
        self._end("unanswered", None)
        entry, self._next = self._next, None
        if entry is None:
            # A job that was paused meanwhile still gets the rest of what was begun.
            entry = await self._rows.begin(replace(self._part(inputs), job_id=None))
            entry = replace(entry, intent=replace(entry.intent, job_id=self._entry.intent.job_id))
        self._open = entry

    def answered(self, tokens: int | None) -> None:
        """See `Meter.answered`. A count that cannot be true counts as none."""
        intent = (self._open or self._entry).intent
        counted = believable(tokens, intent.tokens, sum(share.inputs for share in intent.shares))
        if counted != tokens:
            log.info("a vendor's count of tokens cannot be true and is ignored (provider=%s)", intent.ref)
        self._end("answered", counted)

    def refused(self) -> None:
        """See `Meter.refused`."""
        self._end("refused", None)

    def unusable(self) -> None:
        """See `Meter.unusable`."""
        self._end("unusable", None)

    @property
    def tokens(self) -> int | None:
        """Tokens of all answered requests; None once a count was missing."""
        counts = [outcome.tokens for outcome in self._outcomes if outcome.ending == "answered"]
        return None if None in counts else sum(count for count in counts if count is not None)

    def outcomes(self) -> list[Outcome]:
        """How each request ended; one that never left counts as refused."""
        self._end("unanswered", None)
        if self._next is not None:
            self._outcomes.append(Outcome(self._next, "refused"))
            self._next = None
        return self._outcomes

    def _end(self, ending: Ending, tokens: int | None) -> None:
        if self._open is not None:
            self._outcomes.append(Outcome(self._open, ending, tokens))
            self._open = None

    def _part(self, inputs: int) -> Intent:
        """The intent for a request with some of the texts."""
        shares = self._entry.intent.shares
        texts = split(inputs, [share.inputs for share in shares])
        return replace(
            self._entry.intent,
            shares=[
                replace(share, inputs=some or 0, tokens=share.tokens * inputs // self._texts)
                for share, some in zip(shares, texts, strict=True)
            ],
        )


def check_fit(space: Space, reply: Embeddings) -> None:
    """Raise BadReply where a space's column cannot hold the vectors: the server would refuse a whole batch for one."""
    field, instead = ("columnType", "vector") if space.column_type == "halfvec" else ("index", "hnsw")
    numbers = "halfvec" if space.index.kind == "hnsw-halfvec" else space.column_type
    if not vectors.fit(reply.vectors, numbers):
        raise BadReply(
            f"a vector has a number that {numbers} cannot hold", hint=f"set spec.embedding.{field} to {instead}"
        )


def estimated_share(tenant_id: int | None, texts: Sequence[str], mode: Mode, config: CallConfig) -> Share:
    """What a call for texts of one tenant, or of nobody, is thought to take, with the prefix that its mode has."""
    return Share(tenant_id, len(texts), sum(estimate_tokens(text) for text in with_prefix(texts, mode, config)))


async def ready_in_time(made: Awaitable[T], seconds: float) -> T:
    """What calls a vendor, once its credential is read. Raises SourceUnavailable where that takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await made
    except TimeoutError as error:
        raise SourceUnavailable(f"the credential was not read within {seconds:.3g} s") from error


async def embed_at_once(
    rows: LedgerRows, connector: Connector, space: Space, questions: Sequence[str], *, tenant_id: int, timeout: float
) -> Embeddings:
    """Embed questions that somebody waits for, in a call that is in the ledger whatever becomes of it.

    `rows` says when it gets there. `timeout` is the vendor's, and that of the credential's source; waiting for a
    connection is no part of it.
    Raises what `Connector.embedder` and `Embedder.embed` raise, CircuitOpen, StoreUnavailable.
    """
    with (
        admitted(connector.breaker(space.config), timeout),
        space_span("embed", space, purpose="query", texts=len(questions)) as span,
    ):
        found = await _embed_once(rows, connector, space, questions, tenant_id=tenant_id, timeout=timeout)
        span.note(tokens=found.tokens)
        check_fit(space, found)
    return found


@contextmanager
def admitted(breaker: Breaker, seconds: float) -> Iterator[None]:
    """A call that somebody waits for, of at most so many seconds, as a vendor's breaker lets it through."""
    breaker.admit(seconds)
    try:
        yield
    except EmbedderUnreachable as error:
        breaker.failed(error)
        raise
    except BaseException:
        breaker.not_tried()
        raise
    breaker.succeeded()


async def _embed_once(
    rows: LedgerRows, connector: Connector, space: Space, questions: Sequence[str], *, tenant_id: int, timeout: float
) -> Embeddings:
    embedder, proof = await ready_in_time(connector.embedder_of(space), timeout)
    if not calls_a_vendor(space.config):
        return await embedder.embed(questions, mode="query", timeout=timeout, dimensions=space.dimensions)
    intent = Intent.of(space, "query", [estimated_share(tenant_id, questions, "query", space.config)])
    async with _written_down(rows, intent) as meter:
        try:
            reply = await embedder.embed(
                questions, mode="query", timeout=timeout, dimensions=space.dimensions, meter=meter
            )
        except MemoryOperatorError as error:
            await connector.failed(rows.store, space, error)
            raise
        await connector.worked(rows.store, space, proof)
        return replace(reply, tokens=meter.tokens)


@asynccontextmanager
async def _written_down(rows: LedgerRows, intent: Intent) -> AsyncIterator[Metered]:
    """The meter of a call: its row is taken down before it leaves, and completed when this ends."""
    async with completed(rows, await rows.begin(intent)) as meter:
        yield meter


@asynccontextmanager
async def completed(rows: LedgerRows, entry: LedgerEntry) -> AsyncIterator[Metered]:
    """The meter of a call outside a fill that is written down; its row is completed when this ends."""
    meter = Metered(rows, entry)
    try:
        yield meter
    finally:
        await rows.end(meter.outcomes())


@dataclass(frozen=True, slots=True)
class RerankCall:
    """A question and the texts that it finds, for one tenant, and the Provider whose rerank API is asked."""

    ref: ProviderRef
    config: RerankConfig
    tenant_id: int
    question: str
    texts: Sequence[str]

    def intent(self) -> Intent:
        """What the ledger has before the call; the model reads the question beside each text."""
        question = estimate_tokens(self.question)
        tokens = sum(question + estimate_tokens(text) for text in self.texts)
        return Intent(self.ref, self.config, "rerank", [Share(self.tenant_id, len(self.texts), tokens)])


async def rerank_at_once(store: Store, connector: Connector, call: RerankCall) -> Relevance:
    """Score texts for somebody who waits, within the configuration's time limit, as `embed_at_once` embeds some.

    Raises what `Connector.reranker` and `Reranker.rerank` raise, CircuitOpen, BudgetReached, StoreUnavailable; and
    RateLimited where the Provider's limits let no call leave within that time.
    """
    config, now = call.config, asyncio.get_running_loop().time
    ends = now() + config.timeout_seconds
    with (
        admitted(connector.breaker(config), config.timeout_seconds),
        traces.span("rerank", provider=call.ref, purpose="rerank", texts=len(call.texts)) as span,
    ):
        reranker = await ready_in_time(connector.reranker(config), config.timeout_seconds)
        rows = LedgerRows(store)
        async with completed(rows, await _permitted(rows, call.intent(), ends)) as meter:
            left = max(0.001, ends - now())
            found = await reranker.rerank(call.question, call.texts, timeout=left, meter=meter)
        span.note(tokens=meter.tokens)
    return found


@dataclass(frozen=True, slots=True)
class MeasuredCall:
    """Texts of one tenant that are embedded to measure a model, by a space's vendor and with its credential."""

    space: Space
    config: SpaceConfig
    """The space's own, or the same with another model."""
    purpose: Literal["compare", "rehearse"]
    tenant_id: int
    texts: Sequence[str]
    dimensions: int | None

    @property
    def mode(self) -> Mode:
        """What the texts are embedded as."""
        return "query" if self.purpose == "compare" else "document"

    def intent(self) -> Intent:
        """What the ledger has before the call."""
        share = estimated_share(self.tenant_id, self.texts, self.mode, self.config)
        # As for a rerank API: these calls do not wait for those of fills to end.
        limits = self.config.limits.model_copy(update={"concurrency": None})
        config = self.config.model_copy(update={"limits": limits})
        return Intent(self.space.ref, config, self.purpose, [share])


async def embed_to_measure(store: Store, connector: Connector, call: MeasuredCall, timeout: float) -> Embeddings:
    """Embed texts once limits and budget let the call leave, as `rerank_at_once` scores some.

    Raises as `embed_at_once`, and BudgetReached, RateLimited.
    """
    config, now = call.config, asyncio.get_running_loop().time
    ends = now() + timeout
    with (
        admitted(connector.breaker(config), timeout),
        space_span("embed", call.space, purpose=call.purpose, texts=len(call.texts)) as span,
    ):
        await ready_in_time(connector.checked_proof(call.space), timeout)
        embedder = await ready_in_time(connector.embedder(config), timeout)
        if not calls_a_vendor(config):
            return await embedder.embed(call.texts, mode=call.mode, timeout=timeout, dimensions=call.dimensions)
        rows = LedgerRows(store)
        async with completed(rows, await _permitted(rows, call.intent(), ends)) as meter:
            left = max(0.001, ends - now())
            found = await embedder.embed(
                call.texts, mode=call.mode, timeout=left, dimensions=call.dimensions, meter=meter
            )
        span.note(tokens=meter.tokens)
    return found


async def _permitted(rows: LedgerRows, intent: Intent, ends: float) -> LedgerEntry:
    """The row of a call that limits and budget let leave; it waits for its turn as long as there is time."""
    config, now = intent.config, asyncio.get_running_loop().time
    if (config.limits, config.budget) == (LimitsConfig(), BudgetConfig()):
        return await rows.begin(intent)
    while True:
        async with rows.store.transaction() as conn:
            if config.budget != BudgetConfig():
                room = await limits.day_left(conn, intent)
                if room.tokens is not None and room.tokens < intent.tokens:
                    raise BudgetReached(f"the budget is used up: {room.bound}", hint="raise spec.embedding.budget")
            found = await limits.request(conn, intent)
        if isinstance(found, Granted):
            return found.entry
        if not isinstance(found, Wait) or now() + found.seconds >= ends:
            raise RateLimited("spec.embedding.limits let no call leave in time")
        await asyncio.sleep(found.seconds)


async def probe_dimensions(store: Store, connector: Connector, ref: ProviderRef, config: CallConfig) -> int:
    """Length of the vectors of a Provider's embedder, from one short call.

    Raises as `embed_at_once`, but for the breaker: who probes wants to know how it is now.
    """
    embedder = await connector.embedder(config)
    if not calls_a_vendor(config):
        return await probe(embedder, PROBE_SECONDS)
    intent = Intent(ref, config, "probe", [Share(None, 1, estimate_tokens(PROBE_TEXT))])
    async with _written_down(LedgerRows(store, durable=True), intent) as meter:
        return await probe(embedder, PROBE_SECONDS, meter)
