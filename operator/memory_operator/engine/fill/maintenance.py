"""What happens to jobs beside their ranges: budgets that allow more again, and what dead processes left."""

from __future__ import annotations

from collections.abc import Mapping

from memory_operator.engine.spaces.progress import rate_of, seconds_left
from memory_operator.logs import get_logger
from memory_operator.metrics import Metrics
from memory_operator.store.db.pool import Conn, Store
from memory_operator.store.jobs import jobs, leases, missing
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces import kept, rehearsals, spaces
from memory_operator.store.usage import ledger, limits

log = get_logger(__name__)

_MOST_FORGOTTEN = 10_000
"""Chunks that stop waiting in one statement."""


async def maintain_jobs(store: Store) -> None:
    """Resume jobs whose budget was raised or has a new day; sweep what dead processes left."""
    async with store.connection() as conn:
        open_jobs = await jobs.open_fills(conn)
        there = await spaces.all_spaces(conn)
        waiting = await missing.pending(conn, [space.id for space in there if not space.kept])
        await leases.sweep(conn)
        await kept.forget_pending(conn, _MOST_FORGOTTEN)
        forgotten = await ledger.mark_unanswered(conn)
        expired = await rehearsals.drop_expired(conn)
    if forgotten:
        log.info("%d calls of ended processes are marked as unanswered", forgotten)
    names = {space.id: str(space.ref) for space in there}
    if expired:
        log.info("%d rehearsals that nobody went on with are dropped", expired)
    for job in open_jobs:
        if job.paused_for == "budget":
            async with store.transaction() as conn:
                await _resume_within_budget(conn, job)
    for paused_for in ("user", "budget"):
        store.metrics.jobs_paused.labels(paused_for).set(sum(job.paused_for == paused_for for job in open_jobs))
    running = [job for job in open_jobs if job.state == "running"]
    store.metrics.pending.set(sum(max(0, job.total - job.done) for job in running) + sum(waiting.values()))
    _show(store.metrics, {names[job.space_id]: job for job in open_jobs if job.space_id in names})


def _show(metrics: Metrics, by_provider: Mapping[str, Job]) -> None:
    """Let the metrics say how far each open job is; those of jobs that ended are taken back."""
    for gauge in (metrics.job_chunks, metrics.job_rate, metrics.job_eta_seconds, metrics.job_tokens, metrics.job_cost):
        gauge.clear()
    for provider, job in by_provider.items():
        for state, count in (("total", job.total), ("done", job.done), ("quarantined", job.quarantined)):
            metrics.job_chunks.labels(provider, state).set(count)
        metrics.job_tokens.labels(provider).set(job.tokens or 0)
        metrics.job_cost.labels(provider).set(float(job.cost or 0))
        if rate := rate_of(job):
            metrics.job_rate.labels(provider).set(rate)
            metrics.job_eta_seconds.labels(provider).set(seconds_left(job, rate))


async def _resume_within_budget(conn: Conn, job: Job) -> None:
    space = await spaces.get(conn, job.space_id) if job.space_id is not None else None
    if space is None:
        return
    left = await limits.budget_left(conn, space, job)
    if await jobs.resume_within_budget(conn, job.id, left.tokens):
        log.info("%s is resumed: its budget allows more", space.embedding_version, extra={"provider": str(space.ref)})
