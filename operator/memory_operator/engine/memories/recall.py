"""Finding memories: full-text and semantic side by side, fused by score, each answer saying how it was found.

A query resolves the active space once, embeds with it and reads it: never two models in one answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeVar

from memory_operator import traces
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.ledger_rows import QueryRows
from memory_operator.engine.memories.answer import (
    ChannelDiagnostics,
    ChannelMatch,
    MatchKind,
    QueryDiagnostics,
    RecallAnswer,
    RerankDiagnostics,
    Result,
    ResultDiagnostics,
    milliseconds,
)
from memory_operator.engine.memories.channels import (
    CHANNEL_SECONDS,
    Channel,
    ChannelName,
    ChannelQuery,
    Channels,
    Semantic,
)
from memory_operator.engine.memories.prepare import in_a_thread_if_long, open_attributes, opened
from memory_operator.engine.memories.rerank import Rerankers, RerankOptions
from memory_operator.engine.memories.shaping import bare, cut_of, embeddable
from memory_operator.engine.memories.weighing import Explanation, weighing
from memory_operator.engine.spaces.active import ActiveSpace, Resolved
from memory_operator.errors import InvalidInput, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.memory.encryption import DataKey, Place, Undecryptable
from memory_operator.memory.fusion import COUNTED, Fused, FusedRanking
from memory_operator.memory.preprocess import preprocess
from memory_operator.store.db.pool import CALLER, Conn, Store
from memory_operator.store.memories import memories, nearest
from memory_operator.store.memories.memories import FoundMemory, Neighbour
from memory_operator.store.memories.nearest import Filters, Hit
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.turns import Turns, few

log = get_logger(__name__)

MAX_RESULTS = 200
DEFAULT_RESULTS = 10

_NO_LIMIT = 1 << 30
"""Of queries that are worked on, which the server bounds."""
_CANDIDATES_PER_RESULT = 2
_FEWEST_CANDIDATES = COUNTED
"""Each channel ranks at least so many memories: fusing needs to see what the other channel also found."""

C = TypeVar("C", bound=Channel)

Granularity = Literal["memory", "chunk"]
"""What is a result: a memory by its best chunk, or each chunk."""


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """How a query looks, where it is not as usual."""

    channels: Sequence[ChannelName] = ("fulltext", "semantic")
    """Those that are asked; the others are skipped."""
    embedding_version: str | None = None
    """The space to read instead of the active one."""
    min_score: float = 0.0
    """Results below are left out."""
    granularity: Granularity = "memory"
    context: int = 0
    """How many chunks before and after the one that was found are shown."""
    fold: bool = True
    """Results with the same text, but for case, blanks and punctuation, become one."""
    weights: Mapping[str, float] | None = None
    """Of the channels, instead of what each knows about the question; at least one is above 0."""
    explain: bool = False
    """Say how the channels were weighed."""
    rerank: RerankOptions | None = None
    """Who re-ranks the first results; None: as the Provider of the space says."""


class Recall:
    """The finding half of the memory API. One for each event loop."""

    def __init__(self, store: Store, connector: Connector, keys: KeyRing, turns: Turns | None = None) -> None:
        """`turns`: in which tenants beside each other have their queries worked on."""
        self._store = store
        self._turns = turns or Turns(_NO_LIMIT, at_work_beside=few(store.pool_size))
        self._keys = keys
        self._active = ActiveSpace(store)
        self._rows = QueryRows(store)
        self._channels = Channels(self._rows, connector, self._active)
        self._rerankers = Rerankers(store, connector)

    async def follow_switches(self) -> None:
        """Hear of switches of the active space, until cancelled; queries are right without it."""
        await self._active.follow()

    def ledger_in_batches(self) -> AbstractAsyncContextManager[None]:
        """Write the ledger's rows of queries about once a second meanwhile, instead of before each call."""
        return self._rows.in_batches()

    async def query(
        self,
        tenant: str,
        project: str,
        query: str,
        k: int = DEFAULT_RESULTS,
        filters: Filters | None = None,
        options: QueryOptions | None = None,
    ) -> RecallAnswer:
        """Find at most `k` memories of a project; a project that does not exist has none.

        Raises InvalidInput (nothing to look for), StoreUnavailable (no channel could answer); NotFound and Conflict
        where the options name a space that is not there or not in use, or a Provider without a rerank API.
        """
        options = options or QueryOptions()
        watch = _StepTimer()
        if not 1 <= k <= MAX_RESULTS:
            raise InvalidInput(f"k is a number from 1 to {MAX_RESULTS}")
        async with self._turns.working(tenant, CALLER.get()):
            text = await in_a_thread_if_long(len(query), lambda: preprocess(query))
            resolved = await self._active.resolve(options.embedding_version, anew="semantic" not in options.channels)
            reranker = await self._rerankers.find(options.rerank, resolved)
            owner = await self._keys.known_tenant(self._store, tenant)
            project_id = await self._keys.known_project(self._store, owner, project) if owner else None
            watch.lap("resolve")
            if owner is None or project_id is None:
                return RecallAnswer((), _diagnostics(text, Channel(), Semantic(resolved=resolved), watch))
            limit = max(_FEWEST_CANDIDATES, k * _CANDIDATES_PER_RESULT, reranker.top if reranker else 0)
            looked_for = replace(filters or Filters(), each_chunk=options.granularity == "chunk")
            wanted = ChannelQuery(owner.id, project_id, text, limit, looked_for, options.embedding_version)
            words, meaning = await self._search(wanted, resolved, options.channels)
            if meaning.resolved.space is not resolved.space:  # it was looked up again, and may have another rerank API
                reranker = await self._rerankers.find(options.rerank, meaning.resolved)
            watch.lap("search")
            read = meaning.resolved.space
            weighed = weighing(words, meaning, read.config if read else None, limit, options.weights)
            reading = _Reading({"fulltext": words.hits, "semantic": meaning.hits}, owner.key, text, options)
            results, reranked = None, None
            if reranker is not None:
                first = await self._shown(weighed.fused(0.0), max(k, reranker.top), reading)
                watch.lap("candidates")
                results, reranked = await self._rerankers.order(reranker, owner.id, embeddable(text), first)
                watch.lap("rerank")
            if results is None:
                results = await self._shown(weighed.fused(options.min_score), k, reading)
            else:
                results = [result for result in results if result.score >= options.min_score][:k]
            watch.lap("read")
            explanation = weighed.explained() if options.explain else None
            diagnostics = _diagnostics(text, words, meaning, watch, explanation, reranked)
            return RecallAnswer(tuple(results), diagnostics)

    async def _search(
        self, wanted: ChannelQuery, resolved: Resolved, channels: Sequence[ChannelName]
    ) -> tuple[Channel, Semantic]:
        fulltext = self._channels.fulltext(wanted) if "fulltext" in channels else _skipped(Channel())
        semantic = (
            self._channels.semantic(wanted, embeddable(wanted.text), resolved)
            if "semantic" in channels
            else _skipped(Semantic(resolved=resolved))
        )
        tasks = (
            asyncio.create_task(fulltext, name="full-text channel"),
            asyncio.create_task(semantic, name="semantic channel"),
        )
        try:
            words, meaning = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        statuses = {words.status, meaning.status}
        if "ok" not in statuses and statuses != {"skipped"}:
            raise StoreUnavailable(
                "no search channel could answer in time",
                hint="try again; if this goes on, look at the load of the database",
                retry_after=1,
            )
        return words, meaning

    async def _shown(self, fused: FusedRanking, k: int, reading: _Reading) -> list[Result]:
        """The first `k` results; more are read where some are folded into others."""
        shown: dict[object, Result] = {}
        at = 0
        with traces.span("query.read", memories=len(fused)):
            while at < len(fused) and len(shown) < k:
                further = fused.items(at, k - len(shown))
                at += len(further)
                for result in await self._read(further, reading):
                    key = bare(result.text) if reading.options.fold else len(shown)
                    first = shown.setdefault(key, result)
                    if first is not result and result.id not in (first.id, *first.also):
                        shown[key] = replace(first, also=(*first.also, result.id))
        return list(shown.values())

    async def _read(self, fused: Sequence[Fused], reading: _Reading) -> list[Result]:
        shown = [_shown_chunk(item, reading.hits) for item in fused]
        if not shown:
            return []
        try:  # as the searches do, so that the connection needs no other settings
            async with nearest.bounded(self._store, CHANNEL_SECONDS) as conn:
                found, near = await _stored(conn, shown, reading.options.context)
        except nearest.TookTooLong:
            async with self._store.connection() as conn:
                found, near = await _stored(conn, shown, reading.options.context)
        results = []
        for item, chunk_id in zip(fused, shown, strict=True):
            if chunk_id in found:
                beside = [one for one in near if one.chunk_id == chunk_id]
                try:
                    results.append(_result(found[chunk_id], item, reading, beside))
                except Undecryptable:  # one damaged row must not take all others down with it
                    log.exception("memory %s is left out of an answer", found[chunk_id].version.canonical_id)
        return results


async def _stored(
    conn: Conn, shown: Sequence[int], reach: int
) -> tuple[Mapping[int, FoundMemory], Sequence[Neighbour]]:
    return await memories.found(conn, shown), await memories.neighbours(conn, shown, reach) if reach else []


class _Reading:
    """What results are made with."""

    def __init__(self, hits: Mapping[str, Sequence[Hit]], key: DataKey, question: str, options: QueryOptions) -> None:
        self.hits = {channel: {hit.key: hit for hit in found} for channel, found in hits.items()}
        self.key = key
        self.words = {word.casefold() for word in question.split()}
        self.options = options


async def _skipped(channel: C) -> C:
    return channel


def _shown_chunk(item: Fused, hits: Mapping[str, Mapping[int, Hit]]) -> int:
    """The chunk that a memory is shown by: that of the channel which ranked it best."""
    best = min(item.shares, key=lambda channel: item.shares[channel].rank)
    return hits[best][item.key].chunk_id


def _result(found: FoundMemory, item: Fused, reading: _Reading, beside: Sequence[Neighbour]) -> Result:
    version, about, key = found.version, found.version.attributes, reading.key
    memory, number = version.canonical_id, version.version_no
    whole = opened(version.input, key, Place(memory, number, "input"))
    scores = {channel: reading.hits[channel][item.key] for channel in item.shares}
    near = [(one.ordinal, key.open(one.text, Place(memory, number, "chunk", one.ordinal))) for one in beside]
    return Result(
        id=memory,
        project=version.project,
        version_no=number,
        text=whole or key.open(found.chunk, Place(memory, number, "chunk", found.ordinal)),
        chunk=found.ordinal,
        score=item.score,
        match_kind=_match_kind(item),
        attributes=open_attributes(version, key),
        created_at=version.created_at,
        before=tuple(text for ordinal, text in near if ordinal < found.ordinal),
        after=tuple(text for ordinal, text in near if ordinal > found.ordinal),
        diagnostics=ResultDiagnostics(
            channels={
                channel: ChannelMatch(
                    share.rank, scores[channel].score, share.normalised, share.contribution, scores[channel].matched
                )
                for channel, share in item.shares.items()
            },
            agreement=item.agreement,
            fused_score=item.score,
            rerank=None,
            fulltext_score=scores["fulltext"].score if "fulltext" in scores else None,
            similarity=scores["semantic"].score if "semantic" in scores else None,
            age_seconds=max(0.0, (datetime.now(UTC) - version.created_at).total_seconds()),
            importance=about.importance,
            confidence=about.confidence,
            matched_tags=[tag for tag in about.tags if tag.casefold() in reading.words],
        ),
    )


def _match_kind(item: Fused) -> MatchKind:
    if len(item.shares) > 1:
        return "both"
    return "semantic" if "semantic" in item.shares else "fulltext"


def _diagnostics(
    text: str,
    words: Channel,
    meaning: Semantic,
    watch: _StepTimer,
    explanation: Explanation | None = None,
    rerank: RerankDiagnostics | None = None,
) -> QueryDiagnostics:
    resolved = meaning.resolved
    return QueryDiagnostics(
        semantic_status=resolved.status,
        reason=resolved.reason,
        embedding_version=resolved.space.embedding_version if resolved.space else None,
        coverage=resolved.coverage,
        channels={
            name: ChannelDiagnostics(len(channel.hits), milliseconds(channel.seconds), channel.status)
            for name, channel in (("fulltext", words), ("semantic", meaning))
        },
        timings_ms={**watch.laps_ms(), "embed": milliseconds(meaning.embed_seconds)},
        cut=cut_of(text),
        explanation=explanation,
        rerank=rerank,
    )


class _StepTimer:
    """Measures the steps of a query."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a step."""
        now = time.perf_counter()
        self._laps[name], self._last = now - self._last, now

    def laps_ms(self) -> dict[str, float]:
        """Milliseconds of each step, and in all."""
        total = time.perf_counter() - self._started
        return {**{name: milliseconds(seconds) for name, seconds in self._laps.items()}, "total": milliseconds(total)}
