"""What one worker has in hand for one space, from the reading of a chunk to the commit of its vector."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from memory_operator.engine.fill.batch import MOST_BYTES, TOO_LARGE, ClaimedRange, Item, TokenEstimate, pack
from memory_operator.engine.fill.writer import CallResult
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.leases import Lease
from memory_operator.store.jobs.missing import StoredChunk


class InFlight:
    """Items and ranges; whoever takes something out, or puts something in, tells `changed`."""

    def __init__(self) -> None:
        self.urgent: deque[Item] = deque()
        """Chunks that were pending: they go before any range."""
        self.ready: deque[Item] = deque()
        """Chunks of ranges."""
        self.again: deque[list[Item]] = deque()
        """Batches that go once more as they are, or in halves."""
        self.answers: deque[CallResult] = deque()
        """What waits to be written."""
        self.held: dict[int, ClaimedRange] = {}
        """Ranges by the id of their lease."""
        self.to_release: list[Lease] = []
        """Leases of ranges that nothing is under way for any more, and that are to be given back."""
        self.sent = 0
        """Items that were sent and are not committed yet."""
        self.changed = asyncio.Event()
        """Something was sent, answered, settled or taken in."""
        self.answered = asyncio.Event()
        """There is something to write."""
        self.stopping = asyncio.Event()
        """Nothing more is to be sent."""
        self._under_way: dict[bytes, Item] = {}

    @property
    def waiting(self) -> int:
        """Items that are still to be sent."""
        return len(self.urgent) + len(self.ready) + sum(len(batch) for batch in self.again)

    @property
    def empty(self) -> bool:
        """Whether nothing is left of what was read."""
        return not (self.waiting or self.answers or self.sent or self.to_release)

    def hold(self, lease: Lease) -> ClaimedRange:
        """Begin with a range."""
        held = ClaimedRange(lease)
        self.held[lease.id] = held
        return held

    def take_in(
        self, chunks: Sequence[StoredChunk], texts: Sequence[str], held: ClaimedRange | None, job: Job | None
    ) -> int:
        """Take in chunks that were read; how many of them are to be settled.

        A chunk whose text is under way already rides along. In a range, one whose text stands first elsewhere is left
        out: whoever embeds that one gives its vector to all.
        """
        taken = 0
        refused: dict[Item, str] = {}
        for chunk, text in zip(chunks, texts, strict=True):
            same = self._under_way.get(chunk.content_hash)
            if same is not None:
                if not any(member.id == chunk.id and not (of and of.lost) for member, of in same.members()):
                    same.duplicates.append((chunk, held))
                    taken += 1
                continue
            if held is not None and chunk.first_id != chunk.id:
                continue
            shared = chunk.has_later or chunk.first_id != chunk.id
            item = Item(chunk, text, len(text.encode()), held, shared=shared)
            self._under_way[chunk.content_hash] = item
            taken += 1
            if item.size > MOST_BYTES:
                refused[item] = TOO_LARGE
            else:
                (self.ready if held is not None else self.urgent).append(item)
        if held is not None:
            held.waiting += taken
        if refused:
            self.sent += len(refused)
            self.answer(CallResult(refused=refused, job=job))
        self.changed.set()
        return taken

    def refuse(self, chunk: StoredChunk, held: ClaimedRange | None, job: Job | None, reason: str) -> None:
        """Take in a chunk that cannot be sent."""
        if held is not None:
            held.waiting += 1
        self.sent += 1
        self.answer(CallResult(refused={Item(chunk, "", 0, held): reason}, job=job))

    def answer(self, answer: CallResult) -> None:
        """Something to write: vectors, refusals, or how calls ended."""
        self.answers.append(answer)
        self.answered.set()
        self.changed.set()

    def take_answers(self, most_rows: int) -> list[CallResult]:
        """What is to be written next; nothing rides along with its items any more."""
        taken: list[CallResult] = []
        rows = 0
        while self.answers and rows < most_rows:
            answer = self.answers.popleft()
            for item in (*answer.items, *answer.refused):
                self._forget(item)
            rows += len(answer.items)
            taken.append(answer)
        return taken

    def back(self, batch: Sequence[Item]) -> None:
        """A call brought nothing for a batch: it goes once more as it is."""
        self.sent -= len(batch)
        self.again.append(list(batch))
        self.changed.set()

    def halve(self, batch: Sequence[Item]) -> None:
        """A batch was refused: its halves go next."""
        self.sent -= len(batch)
        middle = len(batch) // 2
        self.again.extendleft([list(batch[middle:]), list(batch[:middle])])
        self.changed.set()

    def next_batch(
        self, most_texts: int, most_tokens: int | None, estimate: TokenEstimate, *, partly: bool
    ) -> list[Item]:
        """The next call's items; none when there is no full batch and `partly` does not allow a smaller one."""
        found = self._left_of(pack(self.urgent, most_texts, most_tokens, estimate))
        while not found and self.again:
            found = self._left_of(self.again.popleft())
        while not found and self.ready and (partly or len(self.ready) >= most_texts):
            found = self._left_of(pack(self.ready, most_texts, most_tokens, estimate))
        return found

    def _left_of(self, batch: Sequence[Item]) -> list[Item]:
        return [item for item in batch if self._shed_lost(item)]

    def put_back(self, batch: Sequence[Item]) -> None:
        """Items that were not sent after all go to the front of their queue."""
        self.sent -= len(batch)
        for item in reversed(batch):
            (self.ready if item.held is not None else self.urgent).appendleft(item)
        self.changed.set()

    def settle(self, answer: CallResult) -> None:
        """An answer is committed."""
        self.sent -= len(answer.items) + len(answer.refused)
        for held in answer.settles():
            if held is not None:
                held.waiting -= 1
                if held.waiting == 0 and self.held.pop(held.lease.id, None) is not None and held.given_up:
                    self.to_release.append(held.lease)
        self.changed.set()

    def lose(self, lost: Collection[int], answers: Iterable[CallResult] = ()) -> None:
        """Ranges, by lease, are another worker's now: nothing may be written for them any more."""
        for held in [self.held.pop(lease_id, None) for lease_id in lost]:
            if held is not None:
                held.lost = True
        for answer in answers:
            for held in answer.settles():
                if held is not None and held.lease.id in lost:
                    held.lost = True
        self.changed.set()

    def without_lost(self, answer: CallResult) -> CallResult:
        """An answer without the chunks of ranges that are lost; its outcomes stay, since the call was made."""
        keep: list[int] = []
        items = list(answer.items)
        for place, item in enumerate(items):
            if self._shed_lost(item):
                keep.append(place)
        refused = {item: why for item, why in answer.refused.items() if self._shed_lost(item)}
        self.sent -= len(items) - len(keep) + len(answer.refused) - len(refused)
        vectors = answer.vectors
        if vectors is not None and len(keep) < len(items):
            vectors = vectors[keep]
        return CallResult([items[place] for place in keep], vectors, refused, answer.outcomes, answer.job)

    def give_up_ranges(self) -> None:
        """Drop what waits of all ranges, which are given back once nothing is under way for them."""
        for item in self.ready:
            self._abandon(item)
        self.ready.clear()
        kept: deque[list[Item]] = deque()
        for batch in self.again:
            for item in batch:
                if item.held is not None:
                    self._abandon(item)
            if left := [item for item in batch if item.held is None]:
                kept.append(left)
        self.again = kept
        for held in self.held.values():
            held.given_up = True
        idle = [held.lease for held in self.held.values() if held.waiting <= 0]
        for lease in idle:
            del self.held[lease.id]
        self.to_release += idle
        self.changed.set()

    def _abandon(self, item: Item) -> None:
        self._forget(item)
        for _, held in item.members():
            if held is not None:
                held.waiting -= 1

    def _forget(self, item: Item) -> None:
        if self._under_way.get(item.chunk.content_hash) is item:
            del self._under_way[item.chunk.content_hash]

    def _shed_lost(self, item: Item) -> bool:
        """Take the chunks of lost ranges out of an item; whether any is left."""
        members = [(chunk, held) for chunk, held in item.members() if held is None or not held.lost]
        if not members:
            self._forget(item)
            return False
        (item.chunk, item.held), item.duplicates = members[0], members[1:]
        return True
