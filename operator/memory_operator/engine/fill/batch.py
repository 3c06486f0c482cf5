"""The units of a fill: texts to embed, the ranges that they come from, and the batches that are sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from memory_operator.memory.chunking import tokens_of
from memory_operator.store.jobs.leases import Lease
from memory_operator.store.jobs.missing import StoredChunk
from memory_operator.store.usage.ledger import Share

MOST_BYTES = 65_536
"""A longer text is not sent: no embedding model reads so much, and chunking makes such texts rare."""
TOO_LARGE = f"the text is longer than {MOST_BYTES} bytes; it is not sent to any embedder"

_CAUTIOUS_BYTES_PER_TOKEN = 3.0
_LEAST_BYTES_PER_TOKEN = 1.0
_MOST_BYTES_PER_TOKEN = 8.0
"""What a vendor counts is believed up to ten times an estimate, so estimates must not follow it anywhere."""
_LEARNING_RATE = 0.2
_PER_MESSAGE = 2
"""Tokens that vendors add to each text, at most."""


@dataclass(slots=True, eq=False)
class ClaimedRange:
    """A range that this worker has claimed. `InFlight` changes its fields, nobody else."""

    lease: Lease
    unsettled: int = 0
    """Chunks of it that were read and are not settled yet; one more while it is being read."""
    lost: bool = False
    """Another worker has claimed it: nothing may be written for it any more."""
    given_up: bool = False
    """To be released instead of finished once all its chunks are settled."""


@dataclass(slots=True, eq=False)
class Item:
    """A text to embed, for one chunk or for several that share it."""

    chunk: StoredChunk
    text: str = field(repr=False)
    size: int
    """Bytes of the text in UTF-8."""
    claimed: ClaimedRange | None
    """The range it is from; None for a chunk that was pending."""
    duplicates: list[tuple[StoredChunk, ClaimedRange | None]] = field(default_factory=list)
    """Further chunks with the same text that were read while this one was in flight."""
    shared: bool = False
    """Whether chunks that were not read, or are skipped, have the same text."""
    unusable: int = 0
    """Replies so far that could not be used, for it or for its batch."""
    refusals: int = 0
    """Calls so far that failed with this text alone, while another text of the vendor succeeded."""

    def members(self) -> list[tuple[StoredChunk, ClaimedRange | None]]:
        """All chunks that get this item's vector."""
        return [(self.chunk, self.claimed), *self.duplicates]


class TokenEstimate:
    """How many tokens texts have, by their bytes: as everywhere, until the vendor's own counts have been seen."""

    def __init__(self, prefix_bytes: int = 0) -> None:
        self._prefix = prefix_bytes
        """Bytes that go before each text."""
        self._bytes_per_token: float | None = None

    def tokens(self, size: int) -> int:
        """What a text will most likely be counted as."""
        learned = self._bytes_per_token
        size += self._prefix
        return tokens_of(size) if learned is None else 1 + round(size / learned)

    def at_most(self, size: int) -> int:
        """What a text will hardly be counted above, for limits that a request must not cross."""
        size += self._prefix
        return round(size / min(_CAUTIOUS_BYTES_PER_TOKEN, self._bytes_per_token or _CAUTIOUS_BYTES_PER_TOKEN)) + (
            _PER_MESSAGE
        )

    def learn(self, sizes: Sequence[int], tokens: int | None) -> None:
        """Take in what a vendor counted for texts of so many bytes."""
        if tokens:
            size = sum(sizes) + self._prefix * len(sizes)
            seen = min(_MOST_BYTES_PER_TOKEN, max(_LEAST_BYTES_PER_TOKEN, size / tokens))
            old = self._bytes_per_token
            self._bytes_per_token = seen if old is None else old + _LEARNING_RATE * (seen - old)


def pack(waiting: deque[Item], most_texts: int, most_tokens: int | None, estimate: TokenEstimate) -> list[Item]:
    """Take the texts of one call off a queue: as many as fit, at least one."""
    batch: list[Item] = []
    tokens = 0
    while waiting and len(batch) < most_texts:
        more = estimate.at_most(waiting[0].size) if most_tokens is not None else 0
        if batch and most_tokens is not None and tokens + more > most_tokens:
            break
        tokens += more
        batch.append(waiting.popleft())
    return batch


def shares(batch: Iterable[Item], estimate: TokenEstimate) -> Sequence[Share]:
    """Each tenant's part in a call."""
    parts: dict[int, list[int]] = {}
    for item in batch:
        part = parts.setdefault(item.chunk.tenant_id, [0, 0])
        part[0] += 1
        part[1] += estimate.tokens(item.size)
    return [Share(tenant, inputs, tokens) for tenant, (inputs, tokens) in parts.items()]
