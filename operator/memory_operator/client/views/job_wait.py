"""Waiting for jobs that were just begun: bars on a terminal, and what came of it as an exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence

from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server import paths
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import JobDocument, OverviewDocument
from memory_operator.client.session import Session
from memory_operator.client.terminal.progress import bars
from memory_operator.client.views.jobs import job_bar
from memory_operator.client.views.polling import Polling

SILENCE_SECONDS = 30.0
"""An embedder that gives nothing for so long is called not set up; its job goes on by itself when that changes."""


class JobWait:
    """Looks once a second until jobs have ended, or stand still, or the time is up."""

    def __init__(self, session: Session, numbers: Sequence[int], limit_seconds: float) -> None:
        self._session = session
        self._numbers = numbers
        self._polling = Polling(limit_seconds)
        self._moved_at = time.monotonic()
        self._moved: object = None
        self._last_error = ""
        self._pending = 0

    def until_ended(self) -> tuple[list[JobDocument], ExitCode]:
        """The jobs as they were seen last, and the exit code."""
        seen: list[JobDocument] = []
        code = None
        with bars(self._session.screen) as show:
            while code is None:
                seen = self._polling.look(self._look) or seen
                show({f"job {job.id}": job_bar(job) for job in seen})
                code = self._verdict(seen)
                if code is None:
                    self._polling.sleep()
        if code is ExitCode.EMBEDDER_NOT_SET_UP:
            self._session.screen.remark(f"! the embedder gives no vectors: {self._last_error}", "red")
        return seen, code

    def _look(self) -> list[JobDocument]:
        api = self._session.api
        jobs = [read(JobDocument, api.get(paths.job(number))) for number in self._numbers]
        overview = read(OverviewDocument, api.get(paths.STATUS))
        reindex = next((job for job in jobs if job.kind == "reindex"), None)
        if reindex is not None:
            # The fills that it has begun at its end, and its new chunks that still wait for their vectors.
            jobs += [job for job in overview.jobs if job.id > reindex.id]
            self._pending = sum(space.pending for space in overview.spaces if space.state in ("filling", "ready"))
        names = {job.embedding_version for job in jobs if job.state == "running"}
        errors = [
            one.trouble for one in overview.spaces if one.trouble and (self._pending or one.embedding_version in names)
        ]
        self._last_error = errors[0] if errors else ""
        moved = [(job.state, job.done, job.quarantined, job.tokens) for job in jobs], self._pending
        if moved != self._moved or not errors:
            self._moved, self._moved_at = moved, time.monotonic()
        return jobs

    def _verdict(self, jobs: Sequence[JobDocument]) -> ExitCode | None:
        if jobs and all(job.state != "running" for job in jobs) and not self._pending:
            return ended(jobs)
        if self._last_error and time.monotonic() - self._moved_at >= SILENCE_SECONDS:
            return ExitCode.EMBEDDER_NOT_SET_UP
        if not self._polling.is_over:
            return None
        return ExitCode.EMBEDDER_NOT_SET_UP if self._last_error else ExitCode.GATE_NOT_PASSED


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
