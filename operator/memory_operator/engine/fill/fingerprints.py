"""Whether each model still makes the vectors that it made: fixed texts, embedded once a day for each space in use.

The first vectors are kept, and how far two calls in a row are from each other: what that noise explains is no drift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memory_operator.embedders import batch_limit, calls_a_vendor
from memory_operator.engine.embedding.ledger_rows import LedgerRows
from memory_operator.engine.embedding.metered import admitted, check_fit, completed, estimated_share
from memory_operator.engine.fill.pipeline import WorkerContext
from memory_operator.errors import LockBusy, MemoryOperatorError, Retryable, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.store.spaces import model_checks, spaces
from memory_operator.store.spaces.model_checks import DueCheck
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import limits
from memory_operator.store.usage.ledger import Intent
from memory_operator.store.usage.limits import Granted

log = get_logger(__name__)

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Water boils at one hundred degrees Celsius at sea level.",
    "The meeting was moved to Thursday at three in the afternoon.",
    "def add(a, b): return a + b",
    "Error: connection refused while opening the database.",
    "She prefers tea without sugar and a window seat.",
    "Der Zug nach München fährt um acht Uhr ab.",
    "La biblioteca abre a las nueve de la mañana.",
    "Le chat dort sur le canapé du salon.",
    "The contract ends on the last day of the quarter.",
    "Invoice 2041 was paid twice by mistake.",
    "Restart the service after changing the configuration.",
    "A recursive function calls itself with a smaller problem.",
    "Their flight to Osaka was delayed by a storm.",
    "Mix flour, eggs and milk, then let the batter rest.",
    "今日は天気がいいですね。",
)
"""Fixed for ever: another text has another vector."""

_NOISE_TIMES = 10
_LEAST_DRIFT = 1e-3
"""Mean cosine distance below which vectors compare, however still a vendor is: rounding, another machine."""


class ModelDrift:
    """Looks for models that changed under their names. One for each worker."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    async def check_one(self) -> bool:
        """Check the model of a space that is due; False when none is. Raises StoreUnavailable, LockBusy."""
        store = self._context.store
        async with store.connection() as conn:
            await model_checks.schedule(conn)
            due = await model_checks.claim(conn)
            space = await spaces.get(conn, due.space_id) if due else None
        if due is None or space is None:
            return False
        if not calls_a_vendor(space.config):
            return True
        try:
            await self._check(space, due)
        except (StoreUnavailable, LockBusy):
            raise
        except MemoryOperatorError as error:
            self._context.connector.forget(space.config, error)
            await self._context.connector.failed(store, space, error)
            log.info("model not checked, retrying (space=%s): %s", space.embedding_version, error)
        return True

    async def _check(self, space: Space, due: DueCheck) -> None:
        """Compare with the first vectors, or make them. Raises as `Embedder.embed`."""
        now = await self._embedded(space)
        if due.fingerprint is None or due.noise is None:
            noise = float(distances(now, await self._embedded(space)).max())
            async with self._context.store.connection() as conn:
                await model_checks.record_first(conn, space.id, now.astype("<f4").tobytes(), noise)
            return
        first = np.frombuffer(due.fingerprint, dtype="<f4").reshape(len(TEXTS), -1)
        drift = float(distances(first, now).mean())
        drifted = drift > max(_LEAST_DRIFT, _NOISE_TIMES * due.noise)
        async with self._context.store.connection() as conn:
            await model_checks.record(conn, space.id, drift, drifted=drifted)
        if drifted:
            log.warning(
                "fixed texts are %.2g from where they were, %.2g at first (space=%s)",
                *(drift, due.noise, space.embedding_version),
                extra={"provider": str(space.ref)},
            )

    async def _embedded(self, space: Space) -> NDArray[np.float32]:
        """The vectors of the texts by now, of shape (n, dimensions), in as many calls as batches need."""
        limit = batch_limit(space.config)
        parts = [await self._call(space, TEXTS[start : start + limit]) for start in range(0, len(TEXTS), limit)]
        return np.concatenate(parts)

    async def _call(self, space: Space, texts: tuple[str, ...]) -> NDArray[np.float32]:
        store, connector, seconds = self._context.store, self._context.connector, space.config.timeout_seconds
        embedder, proof = await connector.embedder_of(space)
        share = estimated_share(None, texts, "document", space.config)
        intent = Intent.of(space, "maintenance", [share], None, self._context.presence)
        with admitted(connector.breaker(space.config), seconds):
            async with store.transaction() as conn:
                found = await limits.request(conn, intent)
            if not isinstance(found, Granted):
                raise Retryable("the Provider's limits leave no room now")
            async with completed(LedgerRows(store), found.entry) as meter:
                reply = await embedder.embed(
                    texts, mode="document", timeout=seconds, dimensions=space.dimensions, meter=meter
                )
        await connector.worked(store, space, proof)
        check_fit(space, reply)
        return reply.vectors


def distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine distance of each row from the one at its place, of shape (n,)."""
    rows = [each.astype(np.float64) for each in (one, other)]
    units = [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in rows]
    similarities: NDArray[np.float64] = np.einsum("ij,ij->i", *units)
    return 1.0 - similarities
