"""What one worker has in flight for one space, from the reading of a chunk to the commit of its vector."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from memory_operator.backoff import wait_for_event
from memory_operator.engine.fill.batch import MOST_BYTES, TOO_LARGE, ClaimedRange, Item, TokenEstimate, pack
from memory_operator.engine.fill.writer import CallResult
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.leases import Lease
from memory_operator.store.jobs.missing import StoredChunk


class InFlight:
    """Items between reading and commit, the results that wait to be written, and the ranges that both come from.

    The invariant, which every method keeps: an item that was added is in one place at a time until it is settled. It
    waits to be sent (`_urgent`, `_ready`, `_retries`), or it is in a call, or in a result; in the last two `_sent`
    counts it. No two items that wait or are in a call have the same text: chunks with an equal text are added to the
    one that is there (`_by_text`). `ClaimedRange.unsettled` counts the chunks of a range in all items, and one more
    while the range is being read; at 0 the range is no longer ours, and is finished, or released if it was given up.
    A range that another worker has taken over is marked as lost, and its chunks leave their items before the next
    step. Each change wakes who waits for one.
    """

    def __init__(self) -> None:
        self._urgent: deque[Item] = deque()
        """Chunks that were pending: they go before any range."""
        self._ready: deque[Item] = deque()
        """Chunks of ranges."""
        self._retries: deque[list[Item]] = deque()
        """Batches that go once more as they are, or in halves."""
        self._results: deque[CallResult] = deque()
        """What is to be written."""
        self._ranges: dict[int, ClaimedRange] = {}
        """By the id of their lease."""
        self._to_release: list[Lease] = []
        """Leases of ranges that were given up and have nothing in flight any more."""
        self._sent = 0
        self._by_text: dict[bytes, Item] = {}
        self._changed = asyncio.Event()
        self._result_there = asyncio.Event()
        self._stopping = False

    # What there is

    @property
    def waiting(self) -> int:
        """Items that are still to be sent."""
        return len(self._urgent) + len(self._ready) + sum(len(batch) for batch in self._retries)

    @property
    def sent(self) -> int:
        """Items that were sent and are not committed yet."""
        return self._sent

    @property
    def empty(self) -> bool:
        """Whether nothing is left of what was read."""
        return not (self.waiting or self.unfinished or self._to_release)

    @property
    def unfinished(self) -> bool:
        """Whether something was sent, or refused, and is not written yet."""
        return bool(self._sent or self._results)

    @property
    def leases(self) -> list[Lease]:
        """Leases of the ranges that are ours."""
        return [claimed.lease for claimed in self._ranges.values()]

    @property
    def to_release(self) -> list[Lease]:
        """Leases that are to be released."""
        return list(self._to_release)

    @property
    def unwritten(self) -> list[CallResult]:
        """Results that nobody is writing."""
        return list(self._results)

    @property
    def stopping(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._stopping

    # Waiting for a change

    def stop(self) -> None:
        """Let nothing more be sent."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()

    def expect_change(self) -> None:
        """Let `wait_for_change` wait for a change from now on."""
        self._changed.clear()

    async def wait_for_change(self, seconds: float) -> None:
        """Wait for a change since `expect_change`, for at most so long."""
        await wait_for_event(self._changed, seconds)

    # Ranges

    def begin_range(self, lease: Lease) -> ClaimedRange | None:
        """Begin to read a range; None where it is in flight already, and was claimed again by ourselves."""
        claimed = self._ranges.get(lease.id)
        if claimed is not None:
            claimed.lease = lease  # the server was away meanwhile: what is paid stays so
            return None
        claimed = self._ranges[lease.id] = ClaimedRange(lease, unsettled=1)
        return claimed

    def end_reading(self, claimed: ClaimedRange) -> bool:
        """A range is read; True when none of it is in flight: the caller finishes it, or releases it if given up."""
        claimed.unsettled -= 1
        if claimed.unsettled:
            return False
        self._ranges.pop(claimed.lease.id, None)
        return True

    def fail_reading(self, claimed: ClaimedRange) -> None:
        """A range was read in part: nothing is written for it, and whoever claims it next reads it whole."""
        self.lose([claimed.lease.id])
        self._to_release.append(claimed.lease)

    def lose(self, lease_ids: Collection[int], results: Iterable[CallResult] = ()) -> None:
        """Ranges are another worker's now: nothing may be written for them, not even out of these `results`."""
        lost = [self._ranges.pop(lease_id, None) for lease_id in lease_ids]
        lost += [claimed for result in results for claimed in result.settles()]
        for claimed in lost:
            if claimed is not None and claimed.lease.id in lease_ids:
                claimed.lost = True
        self.wake()

    def give_up_ranges(self) -> None:
        """Drop what waits of all ranges; each is released once nothing of it is in flight."""
        for item in self._ready:
            self._drop(item)
        self._ready.clear()
        retries = list(self._retries)
        self._retries.clear()
        for batch in retries:
            for item in batch:
                if item.claimed is not None:
                    self._drop(item)
            if left := [item for item in batch if item.claimed is None]:
                self._retries.append(left)
        for claimed in list(self._ranges.values()):
            claimed.given_up = True
            if claimed.unsettled <= 0:
                del self._ranges[claimed.lease.id]
                self._to_release.append(claimed.lease)
        self.wake()

    def released(self, leases: Collection[Lease]) -> None:
        """Leases were released."""
        self._to_release = [lease for lease in self._to_release if lease not in leases]
        self.wake()

    # From reading to sending

    def add(
        self, chunks: Sequence[StoredChunk], texts: Sequence[str], claimed: ClaimedRange | None, job: Job | None
    ) -> None:
        """Add chunks that were read, of a range, or pending ones.

        A chunk whose text is in flight joins the item there. In a range, one whose text stands first elsewhere is left
        out: whoever embeds that one gives its vector to all.
        """
        refused: dict[Item, str] = {}
        for chunk, text in zip(chunks, texts, strict=True):
            same = self._by_text.get(chunk.content_hash)
            if same is not None:
                if not any(member.id == chunk.id and not (of and of.lost) for member, of in same.members()):
                    same.duplicates.append((chunk, claimed))
                    _count(claimed)
                continue
            if claimed is not None and chunk.first_id != chunk.id:
                continue
            shared = chunk.has_later or chunk.first_id != chunk.id
            item = Item(chunk, text, len(text.encode()), claimed, shared=shared)
            self._by_text[chunk.content_hash] = item
            _count(claimed)
            if item.size > MOST_BYTES:
                refused[item] = TOO_LARGE
            else:
                (self._ready if claimed is not None else self._urgent).append(item)
        if refused:
            self._sent += len(refused)
            self.add_result(CallResult(refused=refused, job=job))
        self.wake()

    def refuse(self, chunk: StoredChunk, claimed: ClaimedRange | None, job: Job | None, reason: str) -> None:
        """Add a chunk that cannot be sent."""
        _count(claimed)
        self._sent += 1
        self.add_result(CallResult(refused={Item(chunk, "", 0, claimed): reason}, job=job))

    def next_batch(
        self,
        most_texts: int,
        most_tokens: int | None,
        estimate: TokenEstimate,
        *,
        partly: bool,
        of_ranges: bool = True,
    ) -> list[Item]:
        """Take the next call's items; none when there is no full batch and `partly` does not allow a smaller one.

        Without `of_ranges` only chunks that were pending, and were not sent yet.
        """
        found = self._without_lost(pack(self._urgent, most_texts, most_tokens, estimate))
        while not found and of_ranges and self._retries:
            found = self._without_lost(self._retries.popleft())
        while not found and of_ranges and self._ready and (partly or len(self._ready) >= most_texts):
            found = self._without_lost(pack(self._ready, most_texts, most_tokens, estimate))
        self._sent += len(found)
        return found

    def put_back(self, batch: Sequence[Item]) -> None:
        """Items that were not sent after all go to the front of their queue."""
        self._sent -= len(batch)
        for item in reversed(batch):
            (self._ready if item.claimed is not None else self._urgent).appendleft(item)
        self.wake()

    def retry(self, batch: Sequence[Item]) -> None:
        """A call brought nothing for a batch: it goes once more as it is."""
        self._sent -= len(batch)
        self._retries.append(list(batch))
        self.wake()

    def retry_in_halves(self, batch: Sequence[Item]) -> None:
        """A batch was refused: its halves go next."""
        self._sent -= len(batch)
        middle = len(batch) // 2
        self._retries.extendleft([list(batch[middle:]), list(batch[:middle])])
        self.wake()

    # From the reply to the commit

    def add_result(self, result: CallResult) -> None:
        """Have something written: vectors, refusals, or how calls ended."""
        self._results.append(result)
        self._result_there.set()
        self.wake()

    async def next_results(self, most_rows: int) -> list[CallResult]:
        """Take what is to be written next, once there is something; no chunk joins its items any more."""
        while not self._results:
            self._result_there.clear()
            await self._result_there.wait()
        taken: list[CallResult] = []
        rows = 0
        while self._results and rows < most_rows:
            result = self._results.popleft()
            for item in (*result.items, *result.refused):
                self._forget_text(item)
            if result.rows > most_rows - rows and result.rows > 1:
                head, tail = result.divided(most_rows - rows)
                self._sent += len(head.items) + len(tail.items) - len(result.items)
                self._results.appendleft(tail)
                result = head
            rows += result.rows
            taken.append(result)
        return taken

    def put_results_back(self, results: Sequence[CallResult]) -> None:
        """Results that were taken and not committed go to the front."""
        self._results.extendleft(reversed(results))

    def settle(self, result: CallResult) -> None:
        """A result is committed."""
        self._sent -= len(result.items) + len(result.refused)
        for claimed in result.settles():
            if claimed is not None:
                claimed.unsettled -= 1
                if claimed.unsettled == 0 and claimed.lease.id in self._ranges:
                    del self._ranges[claimed.lease.id]
                    if claimed.given_up:
                        self._to_release.append(claimed.lease)
        self.wake()

    def strip_lost(self, result: CallResult) -> CallResult:
        """A result without the chunks of lost ranges; its outcomes stay, since the call was made."""
        keep: list[int] = []
        items = list(result.items)
        for place, item in enumerate(items):
            if self._keeps_some(item):
                keep.append(place)
        refused = {item: why for item, why in result.refused.items() if self._keeps_some(item)}
        self._sent -= len(items) - len(keep) + len(result.refused) - len(refused)
        vectors = result.vectors
        if vectors is not None and len(keep) < len(items):
            vectors = vectors[keep]
        return CallResult([items[place] for place in keep], vectors, refused, result.outcomes, result.job)

    # Inside

    def _without_lost(self, batch: Sequence[Item]) -> list[Item]:
        return [item for item in batch if self._keeps_some(item)]

    def _keeps_some(self, item: Item) -> bool:
        """Take the chunks of lost ranges out of an item; whether any is left."""
        members = [(chunk, claimed) for chunk, claimed in item.members() if claimed is None or not claimed.lost]
        if not members:
            self._forget_text(item)
            return False
        (item.chunk, item.claimed), item.duplicates = members[0], members[1:]
        return True

    def _drop(self, item: Item) -> None:
        self._forget_text(item)
        for _, claimed in item.members():
            if claimed is not None:
                claimed.unsettled -= 1

    def _forget_text(self, item: Item) -> None:
        if self._by_text.get(item.chunk.content_hash) is item:
            del self._by_text[item.chunk.content_hash]


def _count(claimed: ClaimedRange | None) -> None:
    """A chunk of a range is in flight."""
    if claimed is not None:
        claimed.unsettled += 1
