"""The channels of a query: each within its time limit, each saying what it found or why it did not."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakValueDictionary

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray

from memory_operator import traces
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.ledger_rows import LedgerRows
from memory_operator.engine.embedding.metered import embed_at_once
from memory_operator.engine.spaces.active import ActiveSpace, Resolved, SemanticStatus
from memory_operator.errors import MemoryOperatorError, SpaceVanished, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.memory.fusion import USUAL_DISPERSION, Dispersion
from memory_operator.memory.search_terms import query_terms
from memory_operator.plan.index import Segment
from memory_operator.store.db.pool import Conn
from memory_operator.store.memories import fulltext, nearest
from memory_operator.store.memories.nearest import Filters, Hit, TookTooLong
from memory_operator.store.spaces import dispersions, hnsw
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

EMBED_SECONDS = 2.0
"""Limit of embedding a query; after it the other channels answer alone."""

CHANNEL_SECONDS = 0.5
"""Limit of one channel's search, from when it has a connection: what it waits before, it waits for others."""

_SIZE_SECONDS = 30.0
_CACHED_SIZES = 10_000

_CREDENTIAL_CHANGED = "credential_changed_while_held"

ChannelName = Literal["fulltext", "semantic"]
ChannelStatus = Literal["ok", "timeout", "unavailable", "skipped"]


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """What is looked for, and where."""

    tenant_id: int
    project_id: int
    text: str
    """Preprocessed."""
    limit: int
    filters: Filters
    embedding_version: str | None = None
    """The space to read instead of the active one."""


@dataclass(slots=True)
class Channel:
    """What one channel found."""

    status: ChannelStatus = "skipped"
    hits: Sequence[Hit] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class Semantic(Channel):
    """What the semantic channel found, and in which space."""

    resolved: Resolved = field(default_factory=lambda: Resolved(None, "no_active_space"))
    embed_seconds: float = 0.0
    dispersion: Dispersion = USUAL_DISPERSION
    """How similar the project's vectors are to each other there."""
    vector: NDArray[np.float32] | None = None
    """That of the query, which is made once, also where the space's row was changed before it was searched."""

    def failed(self, status: SemanticStatus, reason: str) -> None:
        """Note why there is nothing from this channel."""
        self.resolved = Resolved(self.resolved.space, status, reason, self.resolved.coverage)


class Channels:
    """Searches for one process. One for each event loop."""

    def __init__(self, rows: LedgerRows, connector: Connector, active: ActiveSpace) -> None:
        self._rows = rows
        self._store = rows.store
        self._active = active
        self._connector = connector
        # Which projects are small, and which filters few match: either way of reading gives the same, at another speed.
        self._small_words: TTLCache[int, bool] = TTLCache(_CACHED_SIZES, _SIZE_SECONDS)
        self._too_common: TTLCache[None, Sequence[str]] = TTLCache(1, _SIZE_SECONDS)
        self._small_vectors: TTLCache[tuple[int, int], bool] = TTLCache(_CACHED_SIZES, _SIZE_SECONDS)
        self._with_few: TTLCache[tuple[int, tuple[Segment, ...]], frozenset[Segment]] = TTLCache(
            _CACHED_SIZES, _SIZE_SECONDS
        )
        self._dispersions: TTLCache[tuple[int, int], Dispersion] = TTLCache(_CACHED_SIZES, _SIZE_SECONDS)
        self._matching: TTLCache[tuple[int, Filters], int | None] = TTLCache(_CACHED_SIZES, _SIZE_SECONDS)
        self._counting: WeakValueDictionary[tuple[int, Filters], asyncio.Lock] = WeakValueDictionary()

    async def fulltext(self, wanted: ChannelQuery) -> Channel:
        """The memories with the query's words."""
        channel = Channel()
        query = fulltext.WordQuery(wanted.project_id, query_terms(wanted.text), wanted.limit, wanted.filters)

        async def read(conn: Conn) -> list[Hit]:
            small = self._small_words.get(wanted.project_id)
            if small is None:
                small = await fulltext.is_small(conn, wanted.project_id)
                self._small_words[wanted.project_id] = small
            few = await self._few_matching(conn, wanted)
            sizes = fulltext.Sizes(small, few, () if small else await self._common_words(conn))
            return await fulltext.fulltext(conn, query, sizes)

        await self._within_limit("query.fulltext", channel, read)
        return channel

    async def _common_words(self, conn: Conn) -> Sequence[str]:
        """Words that no index is asked for; they change as slowly as the statistics of the store."""
        words = self._too_common.get(None)
        if words is None:
            words = self._too_common[None] = await fulltext.too_common(conn)
        return words

    async def _few_matching(self, conn: Conn, wanted: ChannelQuery) -> int | None:
        """How many memories match the filters, where there are some and they are few; counted once for all channels."""
        if not nearest.filter_values(wanted.filters):
            return None
        key = wanted.project_id, wanted.filters
        async with self._counting.setdefault(key, asyncio.Lock()):
            if key not in self._matching:
                self._matching[key] = await nearest.few_matching(conn, *key)
            return self._matching.get(key)

    async def semantic(self, wanted: ChannelQuery, text: str, resolved: Resolved) -> Semantic:
        """The memories nearest to a text in the active space; once more when that space vanished meanwhile."""
        channel = Semantic(resolved=resolved)
        try:
            await self._once(channel, wanted, text, first=True)
        except SpaceVanished:
            try:
                channel.resolved = await self._active.resolve(wanted.embedding_version, anew=True)
                if not _embed_alike(resolved.space, channel.resolved.space):
                    channel.vector = None
                await self._once(channel, wanted, text, first=False)
            except (SpaceVanished, StoreUnavailable):
                channel.status = "unavailable"
        if channel.status in ("timeout", "unavailable") and channel.resolved.reason is None:
            channel.failed(channel.resolved.status, f"search_{channel.status}")
        return channel

    async def _once(self, channel: Semantic, wanted: ChannelQuery, text: str, *, first: bool) -> None:
        space = channel.resolved.space
        if space is None:
            return
        if channel.vector is None:
            started = time.perf_counter()
            with traces.span("query.embed") as span:
                channel.vector = await self._embedded(channel, wanted, space, text)
                span.note(status=channel.resolved.status, reason=channel.resolved.reason)
            channel.embed_seconds += time.perf_counter() - started
        vector = channel.vector
        if vector is None:
            if first and await self._has_changed(space, wanted, channel.resolved.reason):
                raise SpaceVanished
            return
        # What has just been looked up may be changed all the time, as long as it is the active one.
        only_active = None if wanted.embedding_version else space.seen_as if first else str(space.id)

        async def read(conn: Conn) -> list[Hit]:
            exact = self._small_vectors.get((space.id, wanted.project_id))
            if exact is None:
                exact = await nearest.is_small(conn, space.id, wanted.project_id)
                self._small_vectors[space.id, wanted.project_id] = exact
            channel.dispersion = await self._dispersion(conn, space.id, wanted.project_id)
            exact = exact or await self._few_matching(conn, wanted) is not None
            few = frozenset() if exact else await self._segments_with_few(conn, space, wanted.project_id)
            query = nearest.VectorQuery(wanted.project_id, vector, wanted.limit, wanted.filters)
            return await nearest.nearest(conn, space, query, exact=exact, one_by_one=few, only_active=only_active)

        candidates = hnsw.candidates(space.index.kind, wanted.limit)
        await self._within_limit("query.semantic", channel, read, candidates)

    async def _segments_with_few(self, conn: Conn, space: Space, project_id: int) -> frozenset[Segment]:
        key = project_id, space.index.segments
        few = self._with_few.get(key)
        if few is None:
            few = self._with_few[key] = await nearest.with_few(conn, space, project_id)
        return few

    async def _has_changed(self, space: Space, wanted: ChannelQuery, reason: str | None) -> bool:
        """Whether the embedder that gave nothing is another by now, or may have a credential that it was not sent."""
        try:
            found = (await self._active.resolve(wanted.embedding_version, anew=True)).space
        except StoreUnavailable:
            return False
        if found is None or found.seen_as != space.seen_as:
            return True
        return reason == _CREDENTIAL_CHANGED and space.credential_moved and not found.credential_moved

    async def _dispersion(self, conn: Conn, space_id: int, project_id: int) -> Dispersion:
        dispersion = self._dispersions.get((space_id, project_id))
        if dispersion is None:
            dispersion = await dispersions.find(conn, space_id, project_id) or USUAL_DISPERSION
            self._dispersions[space_id, project_id] = dispersion
        return dispersion

    async def _embedded(
        self, channel: Semantic, wanted: ChannelQuery, space: Space, text: str
    ) -> NDArray[np.float32] | None:
        try:
            answer = await embed_at_once(
                self._rows,
                self._connector,
                space,
                [text],
                tenant_id=wanted.tenant_id,
                timeout=EMBED_SECONDS,
            )
        except MemoryOperatorError as error:
            self._connector.forget(space.config, error)
            channel.failed("embedder_unavailable", error_code(error))
            log.info("a query is answered without %s: %s", space.embedding_version, error.message)
        except Exception:  # full-text stands in, whatever goes wrong here; the trace says what did
            channel.failed("embedder_unavailable", "internal_error")
            log.exception("a query is answered without %s", space.embedding_version)
        else:
            found: NDArray[np.float32] = answer.vectors[0]
            return found
        return None

    async def _within_limit(
        self, name: str, channel: Channel, read: Callable[[Conn], Awaitable[list[Hit]]], limit: int = 0
    ) -> None:
        """Run a search, as a span of that name, and note how it ended. SpaceVanished passes."""
        with traces.span(name) as span:
            started = time.perf_counter()
            try:
                async with nearest.bounded(self._store, CHANNEL_SECONDS, limit) as conn:
                    started = time.perf_counter()
                    channel.hits = await read(conn)
                channel.status = "ok"
            except TookTooLong:
                channel.status = "timeout"
            except StoreUnavailable as error:
                channel.status = "unavailable"
                log.warning("a search failed: %s", error.message)
            finally:
                channel.seconds += time.perf_counter() - started
            span.note(status=channel.status, hits=len(channel.hits))


def _embed_alike(one: Space | None, other: Space | None) -> bool:
    return one is not None and other is not None and (one.id, one.config) == (other.id, other.config)


def error_code(error: MemoryOperatorError) -> str:
    """`EmbedderUnreachable` → embedder_unreachable."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
