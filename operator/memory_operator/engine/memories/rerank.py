"""Re-ranking: a Provider's rerank API reads the question beside each of the first results and puts them in order.

Where it does not answer in time, or not in a way that can be used, the answer is the one without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memory_operator import traces
from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.embedding.circuit_breaker import CircuitOpen
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.metered import RerankCall, rerank_at_once
from memory_operator.engine.memories.answer import RerankDiagnostics, RerankMatch, Result, milliseconds
from memory_operator.engine.memories.channels import error_code
from memory_operator.engine.spaces.active import Resolved
from memory_operator.errors import (
    BudgetReached,
    Conflict,
    CredentialRefused,
    MemoryOperatorError,
    Permanent,
    RequestRejected,
    StoreUnavailable,
)
from memory_operator.logs import get_logger
from memory_operator.plan.space import RerankConfig
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import rerank_apis
from memory_operator.store.spaces.rerank_apis import RerankApi

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RerankOptions:
    """Re-ranking as a query asks for it."""

    provider: ProviderRef | None = None
    """Whose rerank API; None is that of the space's Provider."""
    top: int | None = None
    """How many results are sent; 0 is no re-ranking, None as the Provider says."""


@dataclass(frozen=True, slots=True)
class Reranking:
    """A rerank API, and how much is sent to it."""

    ref: ProviderRef
    api: RerankApi
    top: int

    @property
    def config(self) -> RerankConfig:
        """How it is called."""
        return self.api.config


class Rerankers:
    """The rerank APIs of all Providers. One for each event loop."""

    def __init__(self, store: Store, connector: Connector) -> None:
        self._store = store
        self._connector = connector

    async def find(self, wanted: RerankOptions | None, resolved: Resolved) -> Reranking | None:
        """Who re-ranks a query, if anybody.

        Raises StoreUnavailable, and Conflict (no_reranker) where it is asked for and nobody can.
        """
        if wanted is not None and wanted.top == 0:
            return None
        ref, api = resolved.space.ref if resolved.space else None, resolved.rerank
        if wanted is not None and wanted.provider is not None and wanted.provider != ref:
            ref = wanted.provider
            async with self._store.connection() as conn:
                api = await rerank_apis.find(conn, ref)
        if wanted is None:
            return Reranking(ref, api, api.config.top) if ref and api and api.config.always else None
        if ref is None or api is None:
            whose = f"Provider {ref} has no rerank API" if ref else "no space is active whose Provider could re-rank"
            raise Conflict(
                whose,
                code="no_reranker",
                hint="name a Provider whose spec.embedding.rerank says how its rerank API is called",
            )
        return Reranking(ref, api, wanted.top or api.config.top)

    async def order(
        self, reranking: Reranking, tenant_id: int, question: str, results: Sequence[Result]
    ) -> tuple[list[Result] | None, RerankDiagnostics]:
        """The results with the first of them in another order; None where the API gave none that can be used."""
        began, first = time.perf_counter(), results[: reranking.top]
        with traces.span("query.rerank") as span:
            scores, reason = await self._scores(reranking, tenant_id, question, [result.text for result in first])
            span.note(status="unavailable" if reason else "ok", reason=reason)
        ordered = None if scores is None else reordered(results, scores)
        return ordered, RerankDiagnostics(
            provider=str(reranking.ref),
            model=reranking.config.model,
            status="unavailable" if reason else "ok",
            reason=reason,
            texts=len(first),
            least_relevance=ordered[len(first) - 1].score if ordered else None,
            ms=milliseconds(time.perf_counter() - began),
        )

    async def _scores(
        self, reranking: Reranking, tenant_id: int, question: str, texts: Sequence[str]
    ) -> tuple[Sequence[float] | None, str | None]:
        """The scores of the texts, or why there are none."""
        if not texts:
            return (), None
        call = RerankCall(reranking.ref, reranking.config, tenant_id, question, texts)
        try:
            found = await rerank_at_once(self._store, self._connector, call)
        except MemoryOperatorError as error:
            self._connector.forget(reranking.config, error)
            log.info("a query is answered without re-ranking by %s: %s", reranking.ref, error.message)
            if _lasts(error):
                await self._note(reranking, type(error).__name__, _told(error, reranking.config))
            return None, error_code(error)
        except Exception:  # the order before stands in, whatever goes wrong here; the trace says what did
            log.exception("a query is answered without re-ranking by %s", reranking.ref)
            return None, "internal_error"
        await self._note(reranking, rerank_apis.ANSWERED, None)
        return found.scores, None

    async def _note(self, reranking: Reranking, outcome: str, text: str | None) -> None:
        """Keep how calls end, where that has changed, for the Provider's status."""
        if outcome == reranking.api.outcome:
            return
        try:
            async with self._store.connection() as conn:
                await rerank_apis.note(conn, reranking.ref, reranking.api.generation, outcome, text)
        except StoreUnavailable as error:
            log.info("how a rerank API answers was not stored, retrying at the next call: %s", error)


def _lasts(error: MemoryOperatorError) -> bool:
    """Whether the next call is likely to end with the same error, whatever the question."""
    if isinstance(error, RequestRejected):
        return not error.about_the_texts
    return isinstance(error, Permanent | CircuitOpen | BudgetReached)


def _told(error: MemoryOperatorError, config: RerankConfig) -> str:
    """What a status says of an error; on a server of its own the key and the model are not the Provider's."""
    hint = error.hint
    if config.elsewhere and isinstance(error, CredentialRefused | RequestRejected):
        hint = "check baseURL, model and secretRef of spec.embedding.rerank"
    return f"{error.message}; {hint}" if hint else error.message


def reordered(results: Sequence[Result], scores: Sequence[float]) -> list[Result]:
    """The results with the first, those that have a score, by it, the best first; equal ones as they were.

    The others follow in the order before; their score is multiplied by the least of those before them.
    """
    relevances = _relevances(scores)
    places = sorted(range(len(scores)), key=lambda place: -scores[place])
    matches = [
        RerankMatch(rank, scores[place], relevances[place], place + 1) for rank, place in enumerate(places, start=1)
    ]
    least = min(relevances, default=1.0)
    return [_reranked(results[match.rank_before - 1], match) for match in matches] + [
        replace(result, score=result.score * least) for result in results[len(scores) :]
    ]


def _relevances(scores: Sequence[float]) -> list[float]:
    """0…1: the scores as they are, or of a server that answers with log-odds what they stand for."""
    if all(0 <= score <= 1 for score in scores):
        return list(scores)
    return [0.5 + 0.5 * math.tanh(score / 2) for score in scores]


def _reranked(result: Result, match: RerankMatch) -> Result:
    return replace(result, score=match.relevance, diagnostics=replace(result.diagnostics, rerank=match))
