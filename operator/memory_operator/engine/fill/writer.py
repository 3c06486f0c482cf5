"""One commit of a fill: replies become rows behind the fence of their leases, with the ledger in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from memory_operator.engine.fill.batch import TOO_LARGE, ClaimedRange, Item
from memory_operator.engine.fill.commit_size import MOST_ROWS
from memory_operator.errors import LeaseLost
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics
from memory_operator.store.db.pool import Conn, limit_lock_waits
from memory_operator.store.jobs import jobs, leases, missing, quarantine, skipped
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import kept, model_checks, registry, vectors
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.spaces.vectors import EVERYWHERE, Rows
from memory_operator.store.usage import ledger, limits
from memory_operator.store.usage.ledger import Outcome

log = get_logger(__name__)

LOCK_TIMEOUT_MS = 2_000


@dataclass(slots=True)
class CallResult:
    """What came of one call, or of none."""

    items: Sequence[Item] = ()
    """Those that got a vector, in the order of `vectors`."""
    vectors: NDArray[np.float32] | None = None
    """Shape (len(items), dimensions)."""
    refused: dict[Item, str] = field(default_factory=dict)
    """Those that the vendor refuses even alone, with the reason."""
    outcomes: Sequence[Outcome] = ()
    job: Job | None = None
    """The job that the call was made for; None for pending chunks."""

    @property
    def job_id(self) -> int | None:
        """Id of that job."""
        return self.job.id if self.job else None

    @property
    def rows(self) -> int:
        """Rows that the vectors become."""
        return len(self.items) + sum(len(item.duplicates) for item in self.items)

    def divided(self, rows: int) -> tuple[CallResult, CallResult]:
        """Two results, the first with so many rows, the refusals and the outcomes; an item may be cut in two."""
        assert self.vectors is not None
        place = 0
        while rows > len(self.items[place].duplicates):
            rows -= 1 + len(self.items[place].duplicates)
            place += 1
        head, tail, first = list(self.items[:place]), list(self.items[place:]), place
        if rows:
            item = tail[0]
            (chunk, claimed), *rest = item.members()[rows:]
            tail[0] = Item(chunk, "", 0, claimed, rest)
            item.duplicates = item.duplicates[: rows - 1]
            head.append(item)
        parts = self.vectors[: len(head)], self.vectors[first:]
        return CallResult(head, parts[0], self.refused, self.outcomes, self.job), CallResult(
            tail, parts[1], job=self.job
        )

    def settles(self) -> list[ClaimedRange | None]:
        """The range of each chunk that is settled by this, as often as there are such chunks."""
        return [claimed for item in (*self.items, *self.refused) for _, claimed in item.members()]


@dataclass(frozen=True, slots=True)
class Equals:
    """Chunks with the same text as some that were stored, which get their vectors in further commits."""

    chunk_ids: Sequence[int]
    last_id: int
    """Those up to this id have theirs."""
    stored: frozenset[int] = frozenset()
    """Chunks that were stored and counted as duplicates."""


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What a commit did to the vectors of a space."""

    new: int = 0
    copied: int = 0
    """New ones too: of texts that others have as well."""
    replaced: int = 0
    left: Equals | None = None


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit changed."""

    stored: StoredVectors
    quarantined: int


async def commit(
    conn: Conn, space: Space, results: Sequence[CallResult], job: Job | None, most_equals: int = MOST_ROWS
) -> CommitResult:
    """Store results in one transaction of a connection of the writer's own; `job` is None for pending chunks.

    Where more than `most_equals` chunks share the texts, the rest is left to `commit_equals`. Raises LeaseLost: nothing
    was stored.
    """
    async with conn.transaction():
        await limit_lock_waits(conn, LOCK_TIMEOUT_MS)
        stored = await _store_vectors(conn, space, results, job, most_equals)
        quarantined = await _quarantine(conn, space, results, job)
        if any(result.items for result in results):
            await jobs.note_last_error(conn, space.id, None, None)
            await model_checks.note_there(conn, space.id)
        await _fence(conn, results, over=stored.left is None)
        done = CommitResult(stored, quarantined)
        await _account(conn, space, results, done, job)
        await registry.count(conn, {space.id: stored.new + stored.copied})
    return done


def count_commit(metrics: Metrics, done: CommitResult, results: Sequence[CallResult]) -> None:
    """Count what a commit stored, once it is there."""
    metrics.fill_vectors.inc(done.stored.new)
    metrics.fill_copied.inc(done.stored.copied)
    metrics.fill_quarantined.inc(done.quarantined)
    for outcome in [outcome for result in results for outcome in result.outcomes]:
        kept_for = outcome.entry.intent.purpose == "maintenance"
        metrics.calls.labels("maintenance" if kept_for else "fill", outcome.ending).inc()
        metrics.fill_tokens.inc(outcome.tokens or 0)


async def commit_equals(conn: Conn, space: Space, equals: Equals, job: Job | None, most: int) -> CommitResult:
    """Give their vectors to a further slice of equal texts. `finish` follows the last one."""
    async with conn.transaction():
        await limit_lock_waits(conn, LOCK_TIMEOUT_MS)
        stored = await _give_to_equals(conn, space, equals, job, most)
        done = CommitResult(stored, 0)
        await _account(conn, space, (), done, job)
        await registry.count(conn, {space.id: stored.copied})
    return done


async def _give_to_equals(conn: Conn, space: Space, equals: Equals, job: Job | None, most: int) -> StoredVectors:
    replace, reach = (job.replace, job.reach) if job else (False, EVERYWHERE)
    fresh_id = job.fresh_id if job else None
    within = (equals.last_id, most)
    given = await vectors.give_to_equals(
        conn,
        space.id,
        equals.chunk_ids,
        reach,
        within,
        replace=replace and fresh_id is None,
        job_id=fresh_id,
    )
    left = Equals(equals.chunk_ids, given.last_id, equals.stored) if given.last_id is not None else None
    if fresh_id is not None:
        return StoredVectors(replaced=len(given.chunks.keys() - equals.stored), left=left)
    if given.chunks:
        await missing.settle_pending(conn, space.id, given.chunks)
        await quarantine.take_out(conn, space.id, given.chunks)
    copied = sum(given.chunks.values())
    replaced = sum(not new for chunk_id, new in given.chunks.items() if chunk_id not in equals.stored)
    return StoredVectors(0, copied, replaced if replace else 0, left)


async def _store_vectors(
    conn: Conn, space: Space, results: Sequence[CallResult], job: Job | None, most_equals: int
) -> StoredVectors:
    found = [result for result in results if result.vectors is not None and result.items]
    if not found:
        return StoredVectors()
    rows = _rows(found)
    if job is not None and job.fresh_id is not None:
        return await _store_afresh(conn, space, found, rows, job, most_equals)
    replace = job is not None and job.replace
    stored = await vectors.store(conn, space.id, space.column_type, rows, replace=replace)
    items = [item for result in found for item in result.items]
    duplicates = sum(len(item.duplicates) for item in items)
    new, copied = max(0, stored - duplicates), min(stored, duplicates)
    replaced = max(0, len(rows.chunk_ids) - stored) if replace else 0
    settled = [chunk.id for item in items for chunk, claimed in item.members() if claimed is None]
    if settled:
        await missing.settle_pending(conn, space.id, settled)
        await quarantine.take_out(conn, space.id, settled)
    shared = [item.chunk.id for item in items if item.shared]
    if not shared:
        return StoredVectors(new, copied, replaced)
    equals = Equals(shared, 0, frozenset(rows.chunk_ids.tolist()))
    more = await _give_to_equals(conn, space, equals, job, most_equals)
    return StoredVectors(new, copied + more.copied, replaced + more.replaced, more.left)


async def _store_afresh(
    conn: Conn, space: Space, found: Sequence[CallResult], rows: Rows, job: Job, most_equals: int
) -> StoredVectors:
    """Store in the table that takes the place of the space's; what was pending in the space itself is stored there."""
    items = [item for result in found for item in result.items]
    members = [member for item in items for member in item.members()]
    pending = [chunk.id for chunk, claimed in members if claimed is None]
    new = 0
    if pending:
        new = await vectors.store(conn, space.id, space.column_type, rows.only(pending))
        await missing.settle_pending(conn, space.id, pending)
        await quarantine.take_out(conn, space.id, pending)
    replaced = await vectors.store(conn, space.id, space.column_type, rows, job_id=job.id)
    shared = [item.chunk.id for item in items if item.shared]
    if not shared:
        return StoredVectors(new, 0, replaced)
    more = await _give_to_equals(conn, space, Equals(shared, 0, frozenset(rows.chunk_ids.tolist())), job, most_equals)
    return StoredVectors(new, 0, replaced + more.replaced, more.left)


def _rows(results: Iterable[CallResult]) -> Rows:
    """One row for each chunk: duplicates repeat the vector of their item."""
    ids: list[int] = []
    projects: list[int] = []
    places: list[int] = []
    place = 0
    parts = []
    for result in results:
        for item in result.items:
            ids.append(item.chunk.id)
            projects.append(item.chunk.project_id)
            places.append(place)
            for chunk, _ in item.duplicates:
                ids.append(chunk.id)
                projects.append(chunk.project_id)
                places.append(place)
            place += 1
        parts.append(result.vectors)
    embeddings = parts[0] if len(parts) == 1 else np.concatenate(parts)  # type: ignore[arg-type]
    assert embeddings is not None
    if len(ids) != place:
        embeddings = embeddings[places]
    return Rows(np.array(ids, dtype=np.int64), np.array(projects, dtype=np.int32), embeddings)


async def _quarantine(conn: Conn, space: Space, results: Sequence[CallResult], job: Job | None) -> int:
    """Put refused chunks into quarantine, but for those that keep the vector that was to be replaced; how many.

    For a job also those that keep it count, and each once.
    """
    refused = {item.chunk.id: why for result in results for item, why in result.refused.items()}
    if not refused:
        return 0
    for chunk_id, why in refused.items():
        log.warning("chunk %d gets no vector in %s: %s", chunk_id, space.embedding_version, why)
    too_large = [chunk_id for chunk_id, why in refused.items() if why == TOO_LARGE]
    put = await quarantine.put(conn, space.id, refused, too_large, job.reach if job else EVERYWHERE)
    return put if job is None else await skipped.note(conn, job, refused)


async def finish(conn: Conn, results: Sequence[CallResult]) -> None:
    """Finish the ranges that nothing is left of, once all equal texts have their vectors. Raises LeaseLost."""
    async with conn.transaction():
        await _fence(conn, results, over=True)


def rows_of(results: Sequence[CallResult], most_equals: int) -> int:
    """Rows that a commit may store."""
    shared = any(item.shared for result in results for item in result.items)
    return sum(result.rows for result in results) + (most_equals if shared else 0)


async def _fence(conn: Conn, results: Sequence[CallResult], *, over: bool) -> None:
    """Renew the leases of ranges that go on and finish those that are `over`, if they are still ours."""
    settled: dict[ClaimedRange, int] = {}
    for result in results:
        for claimed in result.settles():
            if claimed is not None:
                settled[claimed] = settled.get(claimed, 0) + 1
    ended = [claimed for claimed, n in settled.items() if over and claimed.unsettled <= n and not claimed.given_up]
    await leases.fence(conn, [claimed.lease for claimed in settled if claimed not in ended])
    lost = await leases.finish(conn, [claimed.lease for claimed in ended])
    if lost:
        raise LeaseLost(lost)


async def _account(
    conn: Conn, space: Space, results: Sequence[CallResult], done: CommitResult, job: Job | None
) -> None:
    outcomes = [outcome for result in results for outcome in result.outcomes]
    stored = done.stored
    if job is not None:
        total = stored.new + stored.copied + stored.replaced
        sent = sum(len(result.items) for result in results if result.vectors is not None)
        copied = max(0, total - sent) if job.replace else stored.copied
        await jobs.advance(conn, job.id, total, copied, done.quarantined)
    if outcomes:
        fresh = await ledger.complete(conn, outcomes)
        if job is not None:
            await ledger.spend(conn, job.id, fresh)
        await _account_kept(conn, space, fresh)
        if space.config.limits.tokens_per_minute is not None:
            over = sum(outcome.spent_tokens - outcome.entry.intent.tokens for outcome in fresh)
            await limits.correct(conn, space.ref, over)


async def _account_kept(conn: Conn, space: Space, outcomes: Sequence[Outcome]) -> None:
    """Add what was taken by a space that is kept for the way back."""
    paid = [outcome for outcome in outcomes if outcome.entry.intent.purpose == "maintenance"]
    costs = [outcome.cost for outcome in paid if outcome.cost is not None]
    if paid:
        tokens = sum(outcome.spent_tokens for outcome in paid)
        await kept.spend(conn, space.id, tokens, sum(costs, start=Decimal(0)) if costs else None)
