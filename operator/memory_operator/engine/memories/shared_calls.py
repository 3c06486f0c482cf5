"""Calls to a vendor for memories of one tenant that are added at the same time: one for several of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from memory_operator.embedders import batch_limit
from memory_operator.engine.embedding.circuit_breaker import CircuitOpen
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.new_texts import Embedded, Target, embed_new
from memory_operator.engine.memories.sharing import Sharing, Work
from memory_operator.errors import BadReply, EmbedderUnreachable, RateLimited, RequestRejected
from memory_operator.plan.cost import split
from memory_operator.store.db.pool import Store

MOST_TEXTS = 64
"""In one shared call; fewer where the Provider's batch size is smaller."""

_CHARS_PER_PLACE = 4_096
"""A text that is longer takes the places of several."""

_Item = tuple[Target, Mapping[bytes, str]]


class SharedCalls:
    """Gives texts their vectors as `embed_new` does. One for each event loop.

    A shared call that fails is made again for each memory by itself, for which half of the time is left.
    """

    def __init__(self, store: Store, connector: Connector) -> None:
        self._store = store
        self._connector = connector
        self._sharing = Sharing(Work("embed texts of memories", self._embed, _may_be_of_one, None))

    async def embed(self, target: Target, texts: Mapping[bytes, str]) -> Embedded:
        """See `embed_new`."""
        # What the ledger says is of one tenant, and what it pays of one space.
        key = (target.tenant_id, target.space.id, tuple(target.seen))
        size = max(len(texts), sum(map(len, texts.values())) // _CHARS_PER_PLACE)
        most = min(batch_limit(target.space.config), MOST_TEXTS)
        return await self._sharing.do(key, (target, texts), size, most)

    async def _embed(self, items: Sequence[_Item]) -> list[Embedded]:
        if len(items) == 1:
            return [await embed_new(self._store, self._connector, *items[0])]
        now = asyncio.get_running_loop().time()
        deadline = now + min(target.deadline - now for target, _ in items) / 2
        texts = {key: text for _, some in items for key, text in some.items()}
        made = await embed_new(self._store, self._connector, replace(items[0][0], deadline=deadline), texts)
        if made.failure is not None and _may_be_of_one(made.failure):
            raise made.failure
        return _shares(made, [some for _, some in items])


def _may_be_of_one(error: Exception) -> bool:
    """Whether a call for others may succeed: it may have been one of the texts, or that they were so many."""
    return isinstance(error, (EmbedderUnreachable, RateLimited, RequestRejected, BadReply)) and not isinstance(
        error, CircuitOpen
    )


def _shares(made: Embedded, every: Sequence[Mapping[bytes, str]]) -> list[Embedded]:
    """What each memory has of a call; its tokens by what their texts were estimated at, equal ones at the first."""
    unpaid = dict(made.sent)
    weights = [sum(unpaid.pop(key, 0) for key in some) for some in every]
    return [
        Embedded(
            {key: made.vectors[key] for key in some if key in made.vectors},
            tokens if weight else 0,
            None if made.vectors.keys() >= some.keys() else made.failure,
        )
        for some, weight, tokens in zip(every, weights, split(made.tokens, weights), strict=True)
    ]
