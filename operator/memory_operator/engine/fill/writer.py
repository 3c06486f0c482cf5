"""One commit of a fill: replies become rows behind the fence of their leases, with the ledger in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memory_operator.engine.fill.batch import TOO_LARGE, ClaimedRange, Item
from memory_operator.errors import LeaseLost
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import jobs, leases, missing, quarantine
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import registry, vectors
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.spaces.vectors import Rows
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

    def settles(self) -> list[ClaimedRange | None]:
        """The range of each chunk that is settled by this, as often as there are such chunks."""
        return [claimed for item in (*self.items, *self.refused) for _, claimed in item.members()]


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What a commit did to the vectors of a space."""

    new: int = 0
    copied: int = 0
    """New ones too: of texts that others have as well."""
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit changed."""

    stored: StoredVectors
    quarantined: int


async def commit(conn: Conn, space: Space, results: Sequence[CallResult], job: Job | None) -> CommitResult:
    """Store results in one transaction of a connection of the writer's own; `job` is None for pending chunks.

    Raises LeaseLost: nothing was stored.
    """
    async with conn.transaction():
        await conn.execute("select set_config('lock_timeout', $1, true)", f"{LOCK_TIMEOUT_MS}ms")
        stored = await _store_vectors(conn, space, results, job)
        quarantined = await _quarantine(conn, space, results, job)
        if any(result.items for result in results):
            await jobs.note_trouble(conn, space.id, None, None)
        await _fence(conn, results)
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
        metrics.calls.labels("fill", outcome.ending).inc()
        metrics.fill_tokens.inc(outcome.tokens or 0)


async def _store_vectors(conn: Conn, space: Space, results: Sequence[CallResult], job: Job | None) -> StoredVectors:
    found = [result for result in results if result.vectors is not None and result.items]
    if not found:
        return StoredVectors()
    replace, project_id = (job.replace, job.project_id) if job else (False, None)
    rows = _rows(found)
    stored = await vectors.store(conn, space.id, space.column_type, rows, replace=replace)
    items = [item for result in found for item in result.items]
    duplicates = sum(len(item.duplicates) for item in items)
    new, copied = max(0, stored - duplicates), min(stored, duplicates)
    settled = [chunk.id for item in items for chunk, claimed in item.members() if claimed is None]
    shared = [item.chunk.id for item in items if item.shared]
    given: dict[int, bool] = {}
    if shared:
        given = await vectors.give_to_equals(conn, space.id, shared, project_id, replace=replace)
        copied += sum(given.values())
        settled += given
    replaced = max(0, len({*rows.chunk_ids.tolist(), *given}) - new - copied) if replace else 0
    if settled:
        await missing.settle_pending(conn, space.id, settled)
        await quarantine.take_out(conn, space.id, settled)
    return StoredVectors(new, copied, replaced)


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
    """Put refused chunks into quarantine; one that has a vector, which was to be replaced, keeps it."""
    refused = {item.chunk.id: why for result in results for item, why in result.refused.items()}
    if not refused:
        return 0
    for chunk_id, why in refused.items():
        log.warning("chunk %d gets no vector in %s: %s", chunk_id, space.embedding_version, why)
    kept = 0
    if job is not None and job.replace:
        there = await vectors.present(conn, space.id, list(refused))
        kept, refused = len(there), {chunk: why for chunk, why in refused.items() if chunk not in there}
    too_large = [chunk_id for chunk_id, why in refused.items() if why == TOO_LARGE]
    return kept + (await quarantine.put(conn, space.id, refused, too_large) if refused else 0)


async def _fence(conn: Conn, results: Sequence[CallResult]) -> None:
    """Renew the leases of ranges that go on and finish those that nothing is left of, if they are still ours."""
    settled: dict[ClaimedRange, int] = {}
    for result in results:
        for claimed in result.settles():
            if claimed is not None:
                settled[claimed] = settled.get(claimed, 0) + 1
    going = [claimed.lease for claimed, n in settled.items() if claimed.unsettled > n or claimed.given_up]
    over = [claimed.lease for claimed, n in settled.items() if claimed.unsettled <= n and not claimed.given_up]
    await leases.fence(conn, going)
    lost = await leases.finish(conn, over)
    if lost:
        raise LeaseLost(lost)


async def _account(
    conn: Conn, space: Space, results: Sequence[CallResult], done: CommitResult, job: Job | None
) -> None:
    outcomes = [outcome for result in results for outcome in result.outcomes]
    stored = done.stored
    if job is not None:
        total = stored.new + stored.copied + stored.replaced
        await jobs.advance(conn, job.id, total, stored.copied, done.quarantined)
    if outcomes:
        fresh = await ledger.complete(conn, outcomes)
        if job is not None:
            await ledger.spend(conn, job.id, fresh)
        if space.config.limits.tokens_per_minute is not None:
            over = sum(outcome.spent_tokens - outcome.entry.intent.tokens for outcome in fresh)
            await limits.correct(conn, space.ref, over)
