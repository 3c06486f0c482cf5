"""Embedding what is being written, while its author waits: for the active space, and those about to be completed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_operator.embedders import batch_limit
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.new_texts import Embedded, Target
from memory_operator.engine.memories.shared_calls import SharedCalls
from memory_operator.errors import MemoryOperatorError, SpaceVanished
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces import spaces
from memory_operator.store.spaces.spaces import Space

log = get_logger(__name__)

CLOSING_SECONDS = 5.0
"""How long spaces that are about to be completed may take once the active one has its vectors."""

_CALLS_IN_FLIGHT = 4
_SLACK_SECONDS = 0.25
"""An embedder keeps its time limit itself, and says why it did not answer; this is for one that does neither."""


@dataclass(slots=True)
class Made:
    """The vectors that a version got in one space in time."""

    vectors: Mapping[int, NDArray[np.float32]]
    """By number of the chunk, each of shape (dimensions,)."""
    tokens: int | None = 0
    """Input tokens of all calls; None once a call did not say."""


@dataclass(slots=True)
class Found:
    """What one space's embedder made of some texts in time, and what there was of them already."""

    vectors: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    """By content hash, each of shape (dimensions,)."""
    tokens: int | None = 0

    def add(self, answer: Embedded) -> None:
        """Take in the answer to one call."""
        self.vectors.update(answer.vectors)
        self.tokens = None if self.tokens is None or answer.tokens is None else self.tokens + answer.tokens

    def of(self, hashes: Sequence[bytes], places: Sequence[int]) -> Made:
        """The vectors of chunks, whose content hashes are given by their numbers."""
        there = {place: self.vectors[hashes[place]] for place in places if hashes[place] in self.vectors}
        return Made(there, self.tokens)


class EmbedOnWrite:
    """Gives what is written its vectors. Remembers the spaces, since each call's first statement compares them.

    One for each event loop.
    """

    def __init__(self, store: Store, connector: Connector) -> None:
        self._store = store
        self._connector = connector
        self._calls = SharedCalls(store, connector)
        self._seen: Sequence[Space] = ()

    async def spaces(self) -> Sequence[Space]:
        """The spaces that a write waits for, the active one first; `embed` says where they have changed."""
        seen = self._seen  # others forget what they found changed, whenever this one waits
        if not seen:
            async with self._store.connection() as conn:
                seen = await spaces.embedded_at_once(conn)
            self._seen = seen
        return seen

    async def embed(
        self,
        tenant_id: int,
        into: Sequence[Space],
        lacking: Mapping[int, Mapping[bytes, str]],
        found: Mapping[int, Found],
        deadline: float,
    ) -> None:
        """Give texts their vectors in several spaces side by side, and put them to what was `found` by space.

        `lacking` has the texts by space, by their content hashes. The first space is the one that is waited for; the
        others get CLOSING_SECONDS more. What an embedder did not give in time is simply not there. Raises SpaceVanished
        where the spaces are others by now.
        """
        now = asyncio.get_running_loop().time
        seen = [space.seen_as for space in into]
        tasks = [
            asyncio.create_task(
                self._one_space(Target(space, seen, tenant_id, deadline), lacking[space.id], found[space.id]),
                name=f"embed for {space.embedding_version}",
            )
            for space in into
        ]
        if not tasks:
            return
        try:
            await asyncio.wait(tasks[:1], timeout=max(0.0, deadline - now()) + _SLACK_SECONDS)
            left = max(0.0, min(CLOSING_SECONDS, deadline + _SLACK_SECONDS - now()))
            done, _ = await asyncio.wait(tasks, timeout=left)
            for task in done:
                task.result()
        except SpaceVanished:
            if self._seen is into:
                self._seen = ()
            raise
        finally:
            await _end(tasks)

    async def _one_space(self, target: Target, texts: Mapping[bytes, str], found: Found) -> None:
        if not texts:
            return
        items = list(texts.items())
        gate = asyncio.Semaphore(_CALLS_IN_FLIGHT)
        try:
            limit = batch_limit(target.space.config)
            calls = [
                asyncio.create_task(
                    self._one_call(target, dict(items[start : start + limit]), found, gate), name="embed a batch"
                )
                for start in range(0, len(items), limit)
            ]
            try:
                # All of them, whatever becomes of one: what is under way is paid for.
                for outcome in await asyncio.gather(*calls, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
            finally:
                await _end(calls)
        except SpaceVanished:
            raise
        except MemoryOperatorError as error:
            self._connector.forget(target.space.config, error)
            log.warning(
                "a memory is stored without its vectors in %s for now: %s: %s",
                target.space.embedding_version,
                type(error).__name__,
                error.message,
            )
        except Exception:
            log.exception("a memory is stored without its vectors in %s for now", target.space.embedding_version)

    async def _one_call(
        self, target: Target, texts: Mapping[bytes, str], found: Found, gate: asyncio.Semaphore
    ) -> None:
        async with gate:
            answer = await self._calls.embed(target, texts)
        found.add(answer)
        if answer.failure is not None:
            raise answer.failure


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what is still under way, and see it end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
