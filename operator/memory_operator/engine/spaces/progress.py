"""How far a job is, how fast it goes and how long it takes from here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from memory_operator.store.jobs.control import NamedJob
from memory_operator.store.jobs.jobs import Job


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as people see it."""

    named: NamedJob
    rate: float | None
    """Chunks, or memories in a reindex, a second since the first call."""
    eta_seconds: int | None
    """None unless it runs and has begun."""


def view_of(named: NamedJob) -> JobView:
    """A job with its rate so far."""
    job = named.job
    rate = rate_of(job)
    return JobView(named, rate, round(seconds_left(job, rate)) if rate and job.state == "running" else None)


def rate_of(job: Job) -> float | None:
    """What was done a second since the first call; None before it."""
    if job.first_call_at is None or not job.done:
        return None
    seconds = ((job.finished_at or datetime.now(UTC)) - job.first_call_at).total_seconds()
    return job.done / seconds if seconds > 0 else None


def seconds_left(job: Job, rate: float) -> float:
    """How long what is left of a job takes at a rate, which is above zero."""
    return max(0, job.total - job.done) / rate
