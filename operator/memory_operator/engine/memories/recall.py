"""Finding memories: full-text and semantic side by side, fused by rank, each answer saying how it was found.

A query resolves the active space once, embeds with it and reads it: never two models in one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from memory_operator import traces
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.memories.channels import Channel, ChannelQuery, Channels, Resolved, Semantic, resolve
from memory_operator.engine.memories.prepare import in_a_thread_if_long, metadata_of, opened
from memory_operator.errors import InvalidInput, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.memory.chunking import CHUNK_CHARS, chunk
from memory_operator.memory.encryption import DataKey, Field, Place, Undecryptable
from memory_operator.memory.preprocess import preprocess
from memory_operator.memory.rank_fusion import Fused, fuse
from memory_operator.store.db.pool import Store
from memory_operator.store.memories import memories
from memory_operator.store.memories.memories import FoundMemory
from memory_operator.store.memories.nearest import Filters, Hit
from memory_operator.store.memories.tenants import KeyRing

log = get_logger(__name__)

MAX_RESULTS = 200
DEFAULT_RESULTS = 10

_CANDIDATES_PER_RESULT = 2
_FEWEST_CANDIDATES = 40
"""Each channel ranks at least so many memories: fusing needs to see what the other channel also found."""

MatchKind = Literal["semantic", "fulltext", "both"]


@dataclass(frozen=True, slots=True)
class Result:
    """One memory that was found."""

    id: UUID
    project: str
    version_no: int
    text: str
    """What its author wrote; of a memory that was cut into several chunks, the chunk that was found."""
    chunk: int
    """Number of that chunk, from 0."""
    score: float
    """Reciprocal rank fusion: only the order means something."""
    match_kind: MatchKind
    summary: str | None
    type: str | None
    tags: tuple[str, ...]
    source: str | None
    importance: float | None
    confidence: float | None
    metadata: Mapping[str, Any] | None
    created_at: datetime
    diagnostics: Mapping[str, Any]
    """`channels` (rank, score, contribution by channel), `fulltext_score`, `similarity`, `age_seconds`,
    `importance`, `confidence`, `matched_tags`."""


@dataclass(frozen=True, slots=True)
class RecallAnswer:
    """What a query finds, and how well it could look."""

    results: tuple[Result, ...]
    diagnostics: Mapping[str, Any]
    """`semantic_status`, `reason`, `embedding_version`, `coverage` (while filling), `channels` (hits, ms and status
    by channel), `timings_ms`."""


class Recall:
    """The finding half of the memory API. One for each event loop."""

    def __init__(self, store: Store, connector: Connector, keys: KeyRing) -> None:
        self._store = store
        self._keys = keys
        self._channels = Channels(store, connector)

    async def query(
        self,
        tenant: str,
        project: str,
        query: str,
        k: int = DEFAULT_RESULTS,
        filters: Filters | None = None,
    ) -> RecallAnswer:
        """Find at most `k` memories of a project; a project that does not exist has none.

        Raises InvalidInput (nothing to look for), StoreUnavailable (no channel could answer).
        """
        watch = _StepTimer()
        if not 1 <= k <= MAX_RESULTS:
            raise InvalidInput(f"k is a number from 1 to {MAX_RESULTS}")
        text = await in_a_thread_if_long(len(query), lambda: preprocess(query))
        resolved = await resolve(self._store)
        owner = await self._keys.known_tenant(self._store, tenant)
        project_id = await self._keys.known_project(self._store, owner, project) if owner else None
        watch.lap("resolve")
        if owner is None or project_id is None:
            return RecallAnswer((), _diagnostics(Channel(), Semantic(resolved=resolved), watch))
        limit = max(_FEWEST_CANDIDATES, k * _CANDIDATES_PER_RESULT)
        asking = ChannelQuery(owner.id, project_id, text, limit, filters or Filters())
        words, meaning = await self._search(asking, resolved)
        watch.lap("search")
        fused = fuse(
            {
                "fulltext": [hit.entry_id for hit in words.hits],
                "semantic": [hit.entry_id for hit in meaning.hits],
            }
        )[:k]
        with traces.span("query.read", memories=len(fused)):
            results = await self._read(fused, {"fulltext": words.hits, "semantic": meaning.hits}, owner.key, text)
        watch.lap("read")
        return RecallAnswer(tuple(results), _diagnostics(words, meaning, watch))

    async def _search(self, asking: ChannelQuery, resolved: Resolved) -> tuple[Channel, Semantic]:
        tasks = (
            asyncio.create_task(self._channels.fulltext(asking), name="full-text channel"),
            asyncio.create_task(
                self._channels.semantic(asking, _embeddable(asking.text), resolved), name="semantic channel"
            ),
        )
        try:
            words, meaning = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if "ok" not in (words.status, meaning.status):
            raise StoreUnavailable(
                "no search channel could answer in time",
                hint="try again; if this goes on, look at the load of the database",
                retry_after=1,
            )
        return words, meaning

    async def _read(
        self, fused: Sequence[Fused], hits: Mapping[str, Sequence[Hit]], key: DataKey, query: str
    ) -> list[Result]:
        by_channel = {channel: {hit.entry_id: hit for hit in found} for channel, found in hits.items()}
        shown = [_shown_chunk(item, by_channel) for item in fused]
        if not shown:
            return []
        async with self._store.connection() as conn:
            found = await memories.found(conn, shown)
        words = {word.casefold() for word in query.split()}
        results = []
        for item, chunk_id in zip(fused, shown, strict=True):
            if chunk_id in found:
                try:
                    results.append(_result(found[chunk_id], item, by_channel, key, words))
                except Undecryptable:  # one damaged row must not take all others down with it
                    log.exception("memory %s is left out of an answer", found[chunk_id].version.canonical_id)
        return results


def _embeddable(text: str) -> str:
    """The beginning of a query, as long as the chunks that it is compared with: some models refuse more."""
    return chunk(text[: 4 * CHUNK_CHARS[1]])[0]


def _shown_chunk(item: Fused, hits: Mapping[str, Mapping[int, Hit]]) -> int:
    """The chunk that a memory is shown by: that of the channel which ranked it best."""
    best = min(item.ranks, key=lambda channel: item.ranks[channel])
    return hits[best][item.key].chunk_id


def _result(
    found: FoundMemory, item: Fused, hits: Mapping[str, Mapping[int, Hit]], key: DataKey, words: set[str]
) -> Result:
    version = found.version

    def place(field: Field, ordinal: int = 0) -> Place:
        return Place(version.canonical_id, version.version_no, field, ordinal)

    text = opened(version.input, key, place("input")) or key.open(found.chunk, place("chunk", found.ordinal))
    scores = {channel: hits[channel][item.key] for channel in item.ranks}
    diagnostics = {
        "channels": {
            channel: {
                "rank": item.ranks[channel],
                "score": hit.score,
                "contribution": item.contributions[channel],
                "matched": hit.matched,
            }
            for channel, hit in scores.items()
        },
        "fulltext_score": scores["fulltext"].score if "fulltext" in scores else None,
        "similarity": scores["semantic"].score if "semantic" in scores else None,
        "age_seconds": max(0.0, (datetime.now(UTC) - version.created_at).total_seconds()),
        "importance": version.importance,
        "confidence": version.confidence,
        "matched_tags": [tag for tag in version.tags if tag.casefold() in words],
    }
    return Result(
        id=version.canonical_id,
        project=version.project,
        version_no=version.version_no,
        text=text,
        chunk=found.ordinal,
        score=item.score,
        match_kind=_match_kind(item),
        summary=opened(version.summary, key, place("summary")),
        type=version.type,
        tags=version.tags,
        source=version.source,
        importance=version.importance,
        confidence=version.confidence,
        metadata=metadata_of(opened(version.metadata, key, place("metadata"))),
        created_at=version.created_at,
        diagnostics=diagnostics,
    )


def _match_kind(item: Fused) -> MatchKind:
    if len(item.ranks) > 1:
        return "both"
    return "semantic" if "semantic" in item.ranks else "fulltext"


def _diagnostics(words: Channel, meaning: Semantic, watch: _StepTimer) -> dict[str, Any]:
    resolved = meaning.resolved
    diagnostics: dict[str, Any] = {
        "semantic_status": resolved.status,
        "reason": resolved.reason,
        "embedding_version": resolved.space.embedding_version if resolved.space else None,
        "channels": {
            name: {"hits": len(channel.hits), "ms": _ms(channel.seconds), "status": channel.status}
            for name, channel in (("fulltext", words), ("semantic", meaning))
        },
        "timings_ms": {**watch.laps_ms(), "embed": _ms(meaning.embed_seconds)},
    }
    if resolved.coverage is not None:
        diagnostics["coverage"] = resolved.coverage
    return diagnostics


class _StepTimer:
    """Measures the steps of a query."""

    def __init__(self) -> None:
        self._started = self._last = asyncio.get_running_loop().time()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a step."""
        now = asyncio.get_running_loop().time()
        self._laps[name], self._last = now - self._last, now

    def laps_ms(self) -> dict[str, float]:
        """Milliseconds of each step, and in all."""
        total = asyncio.get_running_loop().time() - self._started
        return {**{name: _ms(seconds) for name, seconds in self._laps.items()}, "total": _ms(total)}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
