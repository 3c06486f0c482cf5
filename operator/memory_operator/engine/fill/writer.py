"""The one writer of a fill: replies become rows behind the fence of their leases, with the ledger in one commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memory_operator import metrics
from memory_operator.engine.fill.batch import ClaimedRange, Item
from memory_operator.logs import get_logger
from memory_operator.store.db.pool import Conn
from memory_operator.store.jobs import jobs, leases, missing, quarantine
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.jobs.leases import LeaseLost
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
        return [held for item in (*self.items, *self.refused) for _, held in item.members()]


@dataclass(slots=True)
class CommitResult:
    """What a commit changed."""

    new: int = 0
    copied: int = 0
    """New ones too: of texts that others have as well."""
    replaced: int = 0
    quarantined: int = 0


async def commit(conn: Conn, space: Space, answers: Sequence[CallResult], job: Job | None) -> CommitResult:
    """Store answers in one transaction of a connection of the writer's own; `job` is None for pending chunks.

    Raises LeaseLost: nothing was stored.
    """
    done = CommitResult()
    replace, project_id = (job.replace, job.project_id) if job else (False, None)
    async with conn.transaction():
        await conn.execute("select set_config('lock_timeout', $1, true)", f"{LOCK_TIMEOUT_MS}ms")
        await _vectors(conn, space, answers, done, replace=replace, project_id=project_id)
        refused = {item.chunk.id: why for answer in answers for item, why in answer.refused.items()}
        if refused:
            done.quarantined = await _refuse(conn, space, refused, replace=replace)
        if any(answer.items for answer in answers):
            await jobs.note_trouble(conn, space.id, None, None)
        await _fence(conn, answers)
        await _account(conn, space, answers, done, job)
        await registry.count(conn, {space.id: done.new + done.copied})
    metrics.FILL_VECTORS.inc(done.new)
    metrics.FILL_COPIED.inc(done.copied)
    metrics.FILL_QUARANTINED.inc(done.quarantined)
    return done


async def _vectors(
    conn: Conn,
    space: Space,
    answers: Sequence[CallResult],
    done: CommitResult,
    *,
    replace: bool,
    project_id: int | None,
) -> None:
    found = [answer for answer in answers if answer.vectors is not None and answer.items]
    if not found:
        return
    rows = _rows(found)
    done.new = await vectors.store(conn, space.id, space.column_type, rows, replace=replace)
    items = [item for answer in found for item in answer.items]
    duplicates = sum(len(item.duplicates) for item in items)
    done.new, done.copied = max(0, done.new - duplicates), min(done.new, duplicates)
    settled = [chunk.id for item in items for chunk, held in item.members() if held is None]
    shared = [item.chunk.id for item in items if item.shared]
    given: dict[int, bool] = {}
    if shared:
        given = await vectors.give_to_equals(conn, space.id, shared, project_id, replace=replace)
        done.copied += sum(given.values())
        settled += given
    if replace:
        stored = {*rows.chunk_ids.tolist(), *given}
        done.replaced = max(0, len(stored) - done.new - done.copied)
    if settled:
        await missing.settle_pending(conn, space.id, settled)


def _rows(answers: Iterable[CallResult]) -> Rows:
    """One row for each chunk: twins repeat the vector of their item."""
    ids: list[int] = []
    projects: list[int] = []
    places: list[int] = []
    place = 0
    parts = []
    for answer in answers:
        for item in answer.items:
            ids.append(item.chunk.id)
            projects.append(item.chunk.project_id)
            places.append(place)
            for chunk, _ in item.duplicates:
                ids.append(chunk.id)
                projects.append(chunk.project_id)
                places.append(place)
            place += 1
        parts.append(answer.vectors)
    embeddings = parts[0] if len(parts) == 1 else np.concatenate(parts)  # type: ignore[arg-type]
    assert embeddings is not None
    if len(ids) != place:
        embeddings = embeddings[places]
    return Rows(np.array(ids, dtype=np.int64), np.array(projects, dtype=np.int32), embeddings)


async def _refuse(conn: Conn, space: Space, refused: dict[int, str], *, replace: bool) -> int:
    """Put chunks into quarantine; one that has a vector, which was to be replaced, keeps it."""
    for chunk_id, why in refused.items():
        log.warning("chunk %d gets no vector in %s: %s", chunk_id, space.embedding_version, why)
    if replace:
        there = await vectors.present(conn, space.id, list(refused))
        kept, refused = len(there), {chunk: why for chunk, why in refused.items() if chunk not in there}
    else:
        kept = 0
    return kept + (await quarantine.put(conn, space.id, refused) if refused else 0)


async def _fence(conn: Conn, answers: Sequence[CallResult]) -> None:
    """Keep the ranges that go on, and end those that nothing is left of, if they are still ours."""
    settled: dict[ClaimedRange, int] = {}
    for answer in answers:
        for held in answer.settles():
            if held is not None:
                settled[held] = settled.get(held, 0) + 1
    going = [held.lease for held, n in settled.items() if held.waiting > n or held.given_up]
    over = [held.lease for held, n in settled.items() if held.waiting <= n and not held.given_up]
    await leases.fence(conn, going)
    lost = await leases.finish(conn, over)
    if lost:
        raise LeaseLost(lost)


async def _account(
    conn: Conn, space: Space, answers: Sequence[CallResult], done: CommitResult, job: Job | None
) -> None:
    outcomes = [outcome for answer in answers for outcome in answer.outcomes]
    if job is not None:
        await jobs.advance(conn, job.id, done.new + done.copied + done.replaced, done.copied, done.quarantined)
    if outcomes:
        fresh = await ledger.complete(conn, outcomes)
        if job is not None:
            await ledger.spend(conn, job.id, fresh)
        if space.config.limits.tokens_per_minute is not None:
            over = sum(outcome.spent_tokens - outcome.entry.intent.tokens for outcome in fresh)
            await limits.correct(conn, space.ref, over)
    for outcome in outcomes:
        metrics.CALLS.labels("fill", outcome.ending).inc()
        metrics.FILL_TOKENS.inc(outcome.tokens or 0)
