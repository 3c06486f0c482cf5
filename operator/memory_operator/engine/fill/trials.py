"""Trials of vendors that have not answered this process yet: one short call, beside the fills and in none's place.

A fill has a connection of its own. Fills whose vendors may never answer get a share of the places only; what waits
for one of those is tried meanwhile, and is filled like any other once its vendor answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from memory_operator.embedders import PROBE_TEXT, calls_a_vendor, probe
from memory_operator.engine.embedding.connector import PROBE_SECONDS
from memory_operator.engine.embedding.ledger_rows import LedgerRows
from memory_operator.engine.embedding.metered import completed
from memory_operator.engine.fill.pipeline import WorkerContext
from memory_operator.errors import LockBusy, MemoryOperatorError, StoreUnavailable
from memory_operator.logs import get_logger
from memory_operator.memory.chunking import estimate_tokens
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import limits
from memory_operator.store.usage.ledger import Intent, Share
from memory_operator.store.usage.limits import Granted

log = get_logger(__name__)

MOST_TRIALS = 64
"""Each takes a socket, and a pooled connection before and after its call."""


class Trials:
    """The trials of one worker."""

    def __init__(self, context: WorkerContext, failed: Callable[[int], None], ended: Callable[[], None]) -> None:
        """`failed` is called with the id of a space whose vendor gave no vector, `ended` after each trial."""
        self._context = context
        self._failed = failed
        self._ended = ended
        self._running: dict[int, asyncio.Task[None]] = {}

    def is_known(self, space: Space) -> bool:
        """Whether a space's vendor has answered this process, whichever space asked."""
        return not calls_a_vendor(space.config) or self._context.connector.breaker(space.config).has_answered

    def is_running(self, space_id: int) -> bool:
        """Whether a space's vendor is being tried."""
        return space_id in self._running

    def begin(self, space: Space) -> None:
        """Try a space's vendor, unless it is being tried or MOST_TRIALS are."""
        if space.id not in self._running and len(self._running) < MOST_TRIALS:
            task = asyncio.create_task(self._run(space), name=f"trial for {space.embedding_version}")
            self._running[space.id] = task

    async def stop(self) -> None:
        """End all trials."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, space: Space) -> None:
        name = space.embedding_version
        try:
            await self._try(space)
        except (StoreUnavailable, LockBusy) as error:
            log.info("vendor not tried, retrying (space=%s): %s", name, error)
        except MemoryOperatorError as error:
            log.info("vendor gave no vector yet (space=%s): %s", name, error)
            self._failed(space.id)
        except Exception:
            log.exception("trial failed (space=%s)", name)
            self._failed(space.id)
        finally:
            del self._running[space.id]
            self._ended()

    async def _try(self, space: Space) -> None:
        """Make one short call, where the Provider's limits allow one now. Raises as `Embedder.embed`."""
        store, connector = self._context.store, self._context.connector
        embedder, _ = await connector.embedder_of(space)
        share = Share(None, 1, estimate_tokens(PROBE_TEXT))
        async with store.transaction() as conn:
            found = await limits.request(conn, Intent.of(space, "probe", [share], None, self._context.presence))
        if not isinstance(found, Granted):
            return
        async with completed(LedgerRows(store), found.entry) as meter:
            await probe(embedder, PROBE_SECONDS, meter)
        connector.breaker(space.config).succeeded()
