"""Waiting for jobs that were just begun: bars on a terminal, and what came of it as an exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence

from memory_operator.client.commands.jobs import JOBS
from memory_operator.client.commands.overview import STATUS, progress
from memory_operator.client.errors import RefusedError, UnreachableError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.schemas import JobDocument, OverviewDocument, read
from memory_operator.client.session import Session
from memory_operator.client.terminal.progress import Bar, bars

POLL_SECONDS = 1.0
TROUBLE_SECONDS = 30.0
"""An embedder that gives nothing for so long is called not set up; its job goes on by itself when that changes."""
ABSENCE_SECONDS = 60.0
"""How long a server that is being restarted may be away."""


class JobWait:
    """Looks once a second until jobs have ended, or stand still, or the time is up."""

    def __init__(self, session: Session, api: ApiClient, limit_seconds: float) -> None:
        self._session = session
        self._api = api
        self._ends_at = time.monotonic() + limit_seconds
        self._answered_at = time.monotonic()
        self._moved_at = time.monotonic()
        self._moved: object = None
        self._trouble = ""
        self._pending = 0

    def until_ended(self, numbers: Sequence[int]) -> tuple[list[JobDocument], ExitCode]:
        """The jobs as they were seen last, and the exit code."""
        seen: list[JobDocument] = []
        with bars(self._session.screen) as show:
            while True:
                seen = self._look(numbers) or seen
                show({f"job {job.id}": _bar(job) for job in seen})
                code = self._verdict(seen)
                if code is not None:
                    return seen, code
                time.sleep(max(0.0, min(POLL_SECONDS, self._ends_at - time.monotonic())))

    def _look(self, numbers: Sequence[int]) -> list[JobDocument]:
        """The jobs; nothing while the server is away for a moment."""
        try:
            jobs = [read(JobDocument, self._api.get(f"{JOBS}/{number}")) for number in numbers]
            overview = read(OverviewDocument, self._api.get(STATUS))
        except (UnreachableError, RefusedError) as failure:
            passing = isinstance(failure, UnreachableError) or failure.status in (502, 503, 504)
            now = time.monotonic()
            if not passing or now - self._answered_at > ABSENCE_SECONDS or now >= self._ends_at:
                raise
            return []
        self._answered_at = time.monotonic()
        jobs += _behind(jobs, overview)
        self._pending = _pending(jobs, overview)
        names = {job.embedding_version for job in jobs if job.state == "running"}
        troubled = [one for one in overview.spaces if one.trouble and (one.embedding_version in names or self._pending)]
        self._trouble = str(troubled[0].trouble) if troubled else ""
        moved = [(job.state, job.done, job.quarantined, job.tokens) for job in jobs], self._pending
        if moved != self._moved or not self._trouble:
            self._moved, self._moved_at = moved, time.monotonic()
        return jobs

    def _verdict(self, jobs: Sequence[JobDocument]) -> ExitCode | None:
        now = time.monotonic()
        if jobs and all(job.state != "running" for job in jobs) and not self._pending:
            return ended(jobs)
        if self._trouble and now - self._moved_at >= TROUBLE_SECONDS:
            self._session.screen.remark(f"! the embedder gives no vectors: {self._trouble}", "red")
            return ExitCode.EMBEDDER_NOT_SET_UP
        if now < self._ends_at:
            return None
        return ExitCode.EMBEDDER_NOT_SET_UP if self._trouble else ExitCode.GATE_NOT_PASSED


def _reindex(jobs: Sequence[JobDocument]) -> JobDocument | None:
    return next((job for job in jobs if job.kind == "reindex"), None)


def _behind(jobs: Sequence[JobDocument], overview: OverviewDocument) -> list[JobDocument]:
    """The fills that a reindex has begun at its end."""
    reindex = _reindex(jobs)
    return [] if reindex is None else [job for job in overview.jobs if job.id > reindex.id]


def _pending(jobs: Sequence[JobDocument], overview: OverviewDocument) -> int:
    """New chunks of a reindex that still wait for their vectors."""
    if _reindex(jobs) is None:
        return 0
    return sum(space.pending for space in overview.spaces if space.state in ("filling", "ready"))


def ended(jobs: Sequence[JobDocument]) -> ExitCode:
    """What to exit with when none of some jobs runs any more."""
    if any(job.state == "paused" and job.paused_for == "budget" for job in jobs):
        return ExitCode.BUDGET_REACHED
    if any(job.state == "paused" for job in jobs):
        return ExitCode.GATE_NOT_PASSED
    wanted = sum(job.total for job in jobs)
    refused = sum(job.quarantined for job in jobs)
    if refused and refused >= wanted:
        return ExitCode.NOTHING_SUCCEEDED
    if any(job.state == "cancelled" for job in jobs):
        return ExitCode.DONE_IN_PART if any(job.done for job in jobs) else ExitCode.NOTHING_SUCCEEDED
    return ExitCode.DONE_IN_PART if refused else ExitCode.DONE


def _bar(job: JobDocument) -> Bar:
    fraction = 1.0 if job.state == "done" or not job.total else min(1.0, job.done / job.total)
    return Bar(fraction, f"{job.name}: {job.state}, {progress(job)}")
