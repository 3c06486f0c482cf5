"""Comparing two sets of vectors, each a space or a rehearsal, by the same questions: what each finds, and how fast.

Where one lacks chunks that the other has, both look at the chunks that both have, and at no others. Each answer is
embedded by one model and reads its vectors alone. Nothing is written but the ledger's rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray

from memory_operator.embedders import with_prefix
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.metered import MeasuredCall, embed_to_measure
from memory_operator.engine.memories.channels import Channel, Semantic
from memory_operator.engine.memories.shaping import embeddable
from memory_operator.engine.memories.sides import (
    Compared,
    ComparedAnswers,
    Found,
    KnownQuestion,
    Question,
    Side,
    budget_reached,
    embedder_unavailable,
    find_side,
)
from memory_operator.engine.memories.weighing import weighing
from memory_operator.errors import BudgetReached, Conflict, NotFound, Permanent, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.measuring.known_items import known_items
from memory_operator.memory.chunking import estimate_tokens
from memory_operator.memory.dispersion import dispersion_of
from memory_operator.memory.fusion import COUNTED, USUAL_DISPERSION, Dispersion
from memory_operator.memory.preprocess import preprocess
from memory_operator.memory.search_terms import query_terms
from memory_operator.plan.space import CallConfig
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.memories import comparing, fulltext, nearest
from memory_operator.store.memories.comparing import InCommon
from memory_operator.store.memories.nearest import Filters, Hit, TookTooLong
from memory_operator.store.memories.tenants import KeyRing
from memory_operator.store.spaces import dispersions, hnsw, rehearsals
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

T = TypeVar("T")

MOST_QUESTIONS = 20
"""Of one request."""

MOST_DRAWN = 1_000
"""Known items of one comparison."""

INDEX_TOP = 10
"""Nearest vectors of which an index is to find all."""

_REQUEST_SECONDS = 12.0
"""After so long no further question of a request is begun."""
_EMBED_SECONDS = 5.0
_SEARCH_SECONDS = 4.0
"""For each step of a question. Together with what comes before, the last one ends within a request's time limit."""
_COUNT_SECONDS = 15.0
_IN_COMMON_SECONDS = 60.0
_WORD_LIMITS = (COUNTED, 10 * COUNTED, 5_000)
"""So many are looked for by words until enough of them are among the chunks that both have."""
_DRAWN_PER_QUESTION = 4
_DISPERSION_SAMPLE = 256


class Comparer:
    """Asks two sides the same questions. One for each event loop."""

    def __init__(self, store: Store, connector: Connector, keys: KeyRing) -> None:
        self._store = store
        self._connector = connector
        self._keys = keys
        self._common: TTLCache[tuple[str, str, int, int | None], InCommon] = TTLCache(256, _IN_COMMON_SECONDS)
        self._dispersions: TTLCache[tuple[str, int], Dispersion] = TTLCache(1_000, _IN_COMMON_SECONDS)

    async def namespaces(self, names: Sequence[str]) -> set[str]:
        """Namespaces of the Providers of some sides; those that are not there have none."""
        async with self._store.connection() as conn:
            found = [await find_side(conn, name, None) for name in names]
        return {side.ref.namespace for side in found if side is not None}

    async def compared(self, tenant: str, names: tuple[str, str], project: str | None) -> Compared:
        """Two sides, and what they have in common. Raises NotFound, Conflict (nothing_in_common, same_space)."""
        if names[0] == names[1]:
            raise Conflict("both are the same space", code="same_space", hint="name another one to compare it with")
        owner = await self._keys.known_tenant(self._store, tenant)
        async with self._store.connection() as conn:
            sides = [await find_side(conn, name, owner.id if owner else None) for name in names]
            for rehearsal in (side.rehearsal for side in sides if side is not None):
                if rehearsal is not None:
                    await rehearsals.put_off(conn, rehearsal.id)
        for name, side in zip(names, sides, strict=True):
            if side is None:
                raise NotFound(f"there is no space {name}", hint="GET /v1/embeddings/spaces lists them")
        one, other = (side for side in sides if side is not None)
        project_id = await self._keys.known_project(self._store, owner, project) if owner and project else None
        if owner is None or (project is not None and project_id is None):
            raise NotFound(f"there is no project {project or 'default'}", hint="GET /v1/projects lists them")
        common = await self._in_common((one, other), owner.id, project_id)
        if not common.both:
            raise Conflict(
                f"{one.name} and {other.name} have no chunk in common",
                code="nothing_in_common",
                hint="fill the one that lacks them, or name another project",
            )
        return Compared(owner, project_id, (one, other), common)

    async def _in_common(self, sides: tuple[Side, Side], tenant_id: int, project_id: int | None) -> InCommon:
        key = (sides[0].name, sides[1].name, tenant_id, project_id)
        if key not in self._common:
            async with nearest.bounded(self._store, _COUNT_SECONDS) as conn:
                pair = (sides[0].vectors, sides[1].vectors)
                self._common[key] = await comparing.in_common(conn, pair, tenant_id, project_id)
        return self._common[key]

    async def draw(self, compared: Compared, count: int, seed: int) -> list[KnownQuestion]:
        """Known items of what both have, spread over the projects as the memories are; the same for the same seed."""
        many = min(MOST_DRAWN, count)
        async with nearest.bounded(self._store, _COUNT_SECONDS) as conn:
            drawn = await comparing.drawn(
                conn, compared.pair(0), compared.tenant.id, compared.project_id, (seed, many * _DRAWN_PER_QUESTION)
            )
        texts = await self._keys.chunk_texts(self._store, drawn)
        by_name = {str(chunk.canonical_id): chunk for chunk in drawn}
        named = {str(chunk.canonical_id): text for chunk, text in zip(drawn, texts, strict=True)}
        items = await asyncio.to_thread(known_items, named, many, seed)
        return [
            KnownQuestion(
                by_name[item.name].slug,
                item.question,
                [UUID(name) for name in item.answers if by_name[name].project_id == by_name[item.name].project_id],
            )
            for item in items
        ]

    async def ask(self, compared: Compared, questions: Sequence[Question], k: int) -> list[ComparedAnswers]:
        """What both sides answer, of at most `k` memories; to the first questions alone where time runs out.

        The project is given. Raises Conflict (embedder_unavailable), StoreUnavailable, SpaceVanished.
        """
        began = time.perf_counter()
        texts = [preprocess(question.text) for question in questions]
        looked_for = [embeddable(text) for text in texts]
        embedded_for = await _side_by_side(
            self._embedded(compared, 0, looked_for), self._embedded(compared, 1, looked_for)
        )
        answers: list[ComparedAnswers] = []
        for place, question in enumerate(questions):
            if answers and time.perf_counter() - began > _REQUEST_SECONDS:
                break
            vectors = [embedded.vectors[place] for embedded in embedded_for]
            try:
                answer = await self._answer(compared, _Look(texts[place], vectors, k), question.judged)
            except TookTooLong as error:
                raise StoreUnavailable("a search of a comparison took too long", retry_after=5) from error
            for found, embedded in zip(answer.found, embedded_for, strict=True):
                found.tokens = embedded.tokens[place]
                found.embed_seconds = embedded.seconds_of_first if place == 0 else None
            answers.append(answer)
        return answers

    async def _embedded(self, compared: Compared, place: int, texts: Sequence[str]) -> _Embedded:
        """The questions as one side's model has them: the first by itself, as a query's is, the others in one call."""
        side = compared.sides[place]
        began = time.perf_counter()
        first = await self._call(compared, side, texts[:1])
        seconds = time.perf_counter() - began
        rest = await self._call(compared, side, texts[1:]) if texts[1:] else first[:0]
        tokens = [estimate_tokens(text) for text in with_prefix(texts, "query", side.config)]
        return _Embedded(np.concatenate([first, rest]), tokens, seconds)

    async def _call(self, compared: Compared, side: Side, texts: Sequence[str]) -> NDArray[np.float32]:
        call = MeasuredCall(side.space, side.config, "compare", compared.tenant.id, texts, side.dimensions)
        try:
            return (await embed_to_measure(self._store, self._connector, call, _EMBED_SECONDS)).vectors
        except BudgetReached as error:
            raise budget_reached(error) from error
        except Permanent as error:
            self._connector.forget(side.config, error)
            raise embedder_unavailable(side.name, error) from error

    async def _answer(self, compared: Compared, look: _Look, judged: Sequence[UUID]) -> ComparedAnswers:
        project_id = compared.project_id
        assert project_id is not None
        both, every = await self._by_words(compared, look)
        found = [await self._found(compared, place, look, (both, every)) for place in (0, 1)]
        async with nearest.bounded(self._store, _SEARCH_SECONDS) as conn:
            current = await comparing.current_entries(conn, project_id, judged)
            there = await comparing.entries_in_common(conn, compared.pair(0), list(current.values()))
        missing = [memory for memory in judged if current.get(memory) not in there]
        return ComparedAnswers((found[0], found[1]), missing)

    async def _by_words(self, compared: Compared, look: _Look) -> tuple[Sequence[Hit], Sequence[Hit]]:
        """The memories with the words of a question: those that both sides have, and all."""
        project_id = compared.project_id
        assert project_id is not None
        every: Sequence[Hit] = ()
        async with nearest.bounded(self._store, _SEARCH_SECONDS) as conn:
            small = await fulltext.is_small(conn, project_id)
            sizes = fulltext.Sizes(small, None, () if small else await fulltext.too_common(conn))
            for limit in _WORD_LIMITS:
                most = max(limit, look.limit)
                query = fulltext.WordQuery(project_id, query_terms(look.text), most, Filters())
                hits = await fulltext.fulltext(conn, query, sizes)
                every = every or hits
                if compared.common.whole:
                    return hits, hits
                there = await comparing.entries_in_common(conn, compared.pair(0), [hit.key for hit in hits])
                both = [hit for hit in hits if hit.key in there]
                if len(both) >= look.limit or len(hits) < most:
                    break
        return both[: look.limit], every[: look.limit]

    async def _found(
        self, compared: Compared, place: int, look: _Look, words: tuple[Sequence[Hit], Sequence[Hit]]
    ) -> Found:
        side, project_id, vector = compared.sides[place], compared.project_id, look.vectors[place]
        assert project_id is not None
        found = Found()
        async with nearest.bounded(self._store, _SEARCH_SECONDS, _candidates(side, look.limit)) as conn:
            dispersion = await self._dispersion(conn, side, project_id)
            began = time.perf_counter()
            if compared.whole:
                hits = await _as_queries_do(conn, side.space, project_id, vector, look.limit)
            else:
                hits = await comparing.nearest_in_common(conn, compared.pair(place), project_id, vector, look.limit)
            found.search_seconds = time.perf_counter() - began
            every = hits
            if side.rehearsal is None:
                if not compared.whole:
                    every = await _as_queries_do(conn, side.space, project_id, vector, look.limit)
                found.index_recall = await _index_recall(conn, side.space, project_id, vector)
            fused = _fused(words[0], hits, dispersion, side.config, look)
            of_all = _fused(words[1], every, dispersion, side.config, look)
            near = [hit.key for hit in hits[: look.k]]
            ids = await comparing.memory_ids(conn, [*fused, *of_all, *near])
        found.fused = [ids[key] for key in fused if key in ids]
        found.semantic = [ids[key] for key in near if key in ids]
        if side.rehearsal is None and not compared.whole:
            found.whole = [ids[key] for key in of_all if key in ids]
        return found

    async def _dispersion(self, conn: Conn, side: Side, project_id: int) -> Dispersion:
        """As queries find it; of a rehearsal as it would be measured."""
        key = side.name, project_id
        if key not in self._dispersions:
            measured = None
            if side.rehearsal is None:
                measured = await dispersions.find(conn, side.space.id, project_id)
            else:
                some = await rehearsals.vectors_of(conn, side.rehearsal.id, project_id, _DISPERSION_SAMPLE)
                if len(some) >= dispersions.FEWEST_VECTORS:
                    measured = await asyncio.to_thread(dispersion_of, some, side.config.distance)
            self._dispersions[key] = measured or USUAL_DISPERSION
        return self._dispersions[key]


@dataclass(frozen=True, slots=True)
class _Embedded:
    vectors: NDArray[np.float32]
    """Shape (n, d)."""
    tokens: Sequence[int]
    seconds_of_first: float


@dataclass(frozen=True, slots=True)
class _Look:
    """One question as it is looked for."""

    text: str
    vectors: Sequence[NDArray[np.float32]]
    """One of each side's model."""
    k: int
    limit: int = field(init=False)
    """Candidates of each channel."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", max(COUNTED, 2 * self.k))


async def _side_by_side(one: Awaitable[T], other: Awaitable[T]) -> tuple[T, T]:
    """Both results; where one fails the other is given up."""
    tasks = [asyncio.ensure_future(each) for each in (one, other)]
    try:
        first, second = await asyncio.gather(*tasks)
        return first, second
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _candidates(side: Side, limit: int) -> int:
    return limit if side.rehearsal else hnsw.candidates(side.space.index.kind, limit)


async def _as_queries_do(
    conn: Conn, space: Space, project_id: int, vector: NDArray[np.float32], limit: int
) -> list[Hit]:
    exact = await nearest.is_small(conn, space.id, project_id)
    few = frozenset() if exact else await nearest.with_few(conn, space, project_id)
    query = nearest.VectorQuery(project_id, vector, limit, Filters())
    return await nearest.nearest(conn, space, query, exact=exact, one_by_one=few)


async def _index_recall(conn: Conn, space: Space, project_id: int, vector: NDArray[np.float32]) -> float | None:
    """Share of the nearest chunks of a project that the space's index finds; None where it has no index."""
    if space.index.kind == "none" or space.index.wanted is None:
        return None
    query = nearest.VectorQuery(project_id, vector, INDEX_TOP, Filters(each_chunk=True))
    exact = await nearest.nearest(conn, space, query, exact=True)
    shown = await nearest.nearest(conn, space, query, exact=False)
    if not exact:
        return None
    least = exact[-1].score - 1e-6  # of equal texts it does not matter which is found
    return sum(hit.score >= least for hit in shown) / len(exact)


def _fused(
    words: Sequence[Hit], near: Sequence[Hit], dispersion: Dispersion, model: CallConfig, look: _Look
) -> list[int]:
    """Versions of memories as a query's answer has them, best first."""
    meaning = Semantic(status="ok", hits=near, dispersion=dispersion)
    ranking = weighing(Channel(status="ok", hits=words), meaning, model, look.limit, None).fused(0.0)
    return [item.key for item in ranking.items(0, look.k)]
