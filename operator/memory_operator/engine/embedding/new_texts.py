"""Vectors of texts that are being stored: those that a space has already, and one call for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memory_operator.embedders import Embedder, calls_a_vendor
from memory_operator.engine.embedding.connector import Connector
from memory_operator.engine.embedding.ledger_rows import LedgerRows
from memory_operator.engine.embedding.metered import admitted, check_fit, completed, ready_in_time
from memory_operator.engine.embedding.spans import space_span
from memory_operator.errors import MemoryOperatorError, SpaceVanished
from memory_operator.memory.chunking import estimate_tokens
from memory_operator.store.db.pool import Store
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import add_calls
from memory_operator.store.usage.ledger import LedgerEntry

_LEAST_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Target:
    """The space that texts of a tenant are embedded for, and until when, by the event loop's clock."""

    space: Space
    seen: Sequence[str]
    """As what the spaces that writes wait for are known, this one among them: see `Space.seen_as`."""
    tenant_id: int
    deadline: float

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(_LEAST_SECONDS, self.deadline - asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of some texts."""

    vectors: Mapping[bytes, NDArray[np.float32]]
    """By content hash, each of shape (dimensions,)."""
    tokens: int | None = 0
    """Input tokens that the vendor counted; None where it did not say."""
    failure: MemoryOperatorError | None = None
    """Why the others have none."""
    sent: Mapping[bytes, int] = field(default_factory=dict)
    """The texts that the vendor counted, with their estimated tokens."""


async def embed_new(store: Store, connector: Connector, target: Target, texts: Mapping[bytes, str]) -> Embedded:
    """Give texts, by their content hashes, their vectors: one statement before the call, which is in the ledger then.

    A failure of the embedder is part of the answer. Raises SpaceVanished where the spaces that writes wait for are
    others by now, and StoreUnavailable.
    """
    space = target.space
    failure: MemoryOperatorError | None = connector.breaker(space.config).refusal()
    embedder, proof = None, None
    if failure is None:
        try:
            embedder, proof = await ready_in_time(connector.embedder_of(space), target.left)
        except MemoryOperatorError as error:
            failure = error
    metered = embedder is not None and calls_a_vendor(space.config)
    async with store.connection() as conn:
        tokens = {key: estimate_tokens(space.config.document_prefix + text) for key, text in texts.items()}
        begun = await add_calls.begin(conn, space, target.seen, target.tenant_id, tokens, metered=metered)
    if begun is None:
        raise SpaceVanished
    missing = {key: text for key, text in texts.items() if key not in begun.known}
    if not missing or embedder is None:
        return Embedded(begun.known, 0, failure if missing else None)
    call = _Call(store, connector, target, embedder, proof)
    try:
        made = await call.make(missing, begun.entry)
    except MemoryOperatorError as error:
        return Embedded(begun.known, 0, error)
    return Embedded({**begun.known, **made.vectors}, made.tokens, sent={key: tokens[key] for key in missing})


@dataclass(frozen=True, slots=True)
class _Call:
    store: Store
    connector: Connector
    target: Target
    embedder: Embedder
    proof: bytes | None

    async def make(self, texts: Mapping[bytes, str], entry: LedgerEntry | None) -> Embedded:
        """The vectors of all these texts. Raises what `Embedder.embed` raises, CircuitOpen, BadReply."""
        space, seconds = self.target.space, self.target.left
        async with AsyncExitStack() as stack:
            meter = await stack.enter_async_context(completed(LedgerRows(self.store), entry)) if entry else None
            with (
                admitted(self.connector.breaker(space.config), seconds),
                space_span("embed", space, purpose="add", texts=len(texts)) as span,
            ):
                reply = await self.embedder.embed(
                    list(texts.values()), mode="document", timeout=seconds, dimensions=space.dimensions, meter=meter
                )
                tokens = meter.tokens if meter else reply.tokens
                span.note(tokens=tokens)
                if meter:
                    await self.connector.worked(self.store, space, self.proof)
                check_fit(space, reply)
        return Embedded(dict(zip(texts, reply.vectors, strict=True)), tokens)
