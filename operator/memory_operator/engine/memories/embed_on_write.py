"""Embedding what is being written, while its author waits: for the active space, and those about to be completed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_operator.embedders import Embeddings, batch_limit
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.ledger_rows import LedgerRows
from memory_operator.engine.embedding.metered import embed_at_once
from memory_operator.errors import MemoryOperatorError
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

CLOSING_SECONDS = 5.0
"""How long spaces that are about to be completed may take once the active one has its vectors."""

_CALLS_IN_FLIGHT = 4
_SLACK_SECONDS = 0.25
"""An embedder keeps its time limit itself, and says why it did not answer; this is for one that does neither."""


@dataclass(slots=True)
class Made:
    """The vectors that one space's embedder made in time."""

    places: list[int] = field(default_factory=list)
    """Which texts got one."""
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    """Shape (n, dimensions) each; concatenated they are in the order of `places`."""
    tokens: int | None = 0
    """Input tokens of all calls; None once a call did not say."""

    def add(self, places: Sequence[int], answer: Embeddings) -> None:
        """Take in the answer to one call."""
        self.places += places
        self.vectors.append(answer.vectors)
        self.tokens = None if self.tokens is None or answer.tokens is None else self.tokens + answer.tokens

    def share_duplicates(
        self, hashes: Sequence[bytes], wanted: Sequence[int], known: Mapping[bytes, NDArray[np.float32]]
    ) -> None:
        """Give their vector to the texts that are the same as one that has it: nothing is paid for them."""
        rows = dict(zip(self.places, np.concatenate(self.vectors), strict=True)) if self.places else {}
        by_text = {**known, **{hashes[place]: row for place, row in rows.items()}}
        more = [place for place in wanted if place not in rows and hashes[place] in by_text]
        if more:
            self.places += more
            self.vectors.append(np.stack([by_text[hashes[place]] for place in more]))


@dataclass(frozen=True, slots=True)
class Calls:
    """By what, and for whom, calls are made."""

    store: Store
    connector: Connector
    tenant_id: int


async def embed_now(
    store: Store,
    connector: Connector,
    tenant_id: int,
    wanted: Mapping[int, Sequence[int]],
    spaces: Sequence[Space],
    texts: Sequence[str],
    seconds: float,
) -> dict[int, Made]:
    """Embed texts for several spaces side by side; what each got, by its id.

    `wanted` says by space which of the texts it lacks. The first space is the one that is waited for; the others
    get CLOSING_SECONDS more. Never raises for an embedder: what it did not give in time is simply not there.
    """
    made = {space.id: Made() for space in spaces}
    deadline = asyncio.get_running_loop().time() + seconds
    tasks = [
        asyncio.create_task(
            _one_space(Calls(store, connector, tenant_id), space, wanted[space.id], texts, deadline, made[space.id]),
            name=f"embed for {space.embedding_version}",
        )
        for space in spaces
    ]
    if not tasks:
        return made
    try:
        await asyncio.wait(tasks[:1], timeout=seconds + _SLACK_SECONDS)
        left = deadline + _SLACK_SECONDS - asyncio.get_running_loop().time()
        await asyncio.wait(tasks, timeout=max(0.0, min(CLOSING_SECONDS, left)))
    finally:
        await _end(tasks)
    return made


async def _one_space(
    calls_to: Calls, space: Space, places: Sequence[int], texts: Sequence[str], deadline: float, made: Made
) -> None:
    if not places:
        return
    try:
        limit = batch_limit(space.config)
        batches = [places[start : start + limit] for start in range(0, len(places), limit)]
        gate = asyncio.Semaphore(_CALLS_IN_FLIGHT)
        calls = [
            asyncio.create_task(_one_batch(calls_to, space, batch, texts, deadline, made, gate), name="embed a batch")
            for batch in batches
        ]
        try:
            # All of them, whatever becomes of one: what is under way is paid for.
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        finally:
            await _end(calls)
    except MemoryOperatorError as error:
        calls_to.connector.forget(space.config, error)
        log.warning(
            "a memory is stored without its vectors in %s for now: %s: %s",
            space.embedding_version,
            type(error).__name__,
            error.message,
        )
    except Exception:
        log.exception("a memory is stored without its vectors in %s for now", space.embedding_version)


async def _one_batch(
    calls_to: Calls,
    space: Space,
    batch: Sequence[int],
    texts: Sequence[str],
    deadline: float,
    made: Made,
    gate: asyncio.Semaphore,
) -> None:
    async with gate:
        answer = await embed_at_once(
            LedgerRows(calls_to.store),
            calls_to.connector,
            space,
            [texts[place] for place in batch],
            purpose="add",
            tenant_id=calls_to.tenant_id,
            timeout=max(0.001, deadline - asyncio.get_running_loop().time()),
        )
    made.add(batch, answer)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what is still under way, and see it end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
