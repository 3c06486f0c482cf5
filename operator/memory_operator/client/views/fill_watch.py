"""Watching the fills of spaces until they are done: bars on a terminal, JSON lines with --json, else silence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from memory_operator.client.errors import CommandError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server import paths
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import HeldDocument, JobDocument, OverviewDocument, SpaceDocument
from memory_operator.client.session import Session
from memory_operator.client.terminal.progress import Bar, bars
from memory_operator.client.views.jobs import job_bar, speed_and_price
from memory_operator.client.views.polling import Polling
from memory_operator.client.views.spaces import verdict

SETTLING_SECONDS = 3.0
"""An edit or a consent of a moment ago needs so long to show, so nothing is called final before."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The state of the store at one moment, or the part of it that was named."""

    document: Any
    overview: OverviewDocument
    spaces: tuple[SpaceDocument, ...]
    held: tuple[HeldDocument, ...]
    jobs: list[JobDocument]
    """The newest of each of these spaces."""

    @property
    def filling(self) -> list[SpaceDocument]:
        """The spaces that are not ready."""
        return [space for space in self.spaces if space.state == "filling"]

    @property
    def open_jobs(self) -> list[JobDocument]:
        """The jobs that have not ended: fills, and rebuilds of spaces that are ready."""
        return [job for job in self.jobs if job.state in ("running", "paused")]

    @property
    def stopped(self) -> list[JobDocument]:
        """The jobs that somebody has to see to: paused ones, and cancelled ones of spaces that are not ready."""
        of_filling = [self.job_of(space) for space in self.filling]
        return [job for job in self.jobs if job.state == "paused" or (job.state == "cancelled" and job in of_filling)]

    @property
    def goes_on(self) -> bool:
        """Whether anything happens by itself."""
        stopped = self.stopped
        return any(job.state == "running" for job in self.jobs) or any(
            self.job_of(space) not in stopped for space in self.filling
        )

    def job_of(self, space: SpaceDocument) -> JobDocument | None:
        """The job of a space."""
        return next((job for job in self.jobs if job.embedding_version == space.embedding_version), None)


def observe(session: Session, name: str | None) -> Observed:
    """Look at all spaces, or those of this name or Provider. Raises CommandError."""
    document = session.api.get(paths.STATUS)
    overview = read(OverviewDocument, document)
    if name is None:
        return Observed(document, overview, overview.spaces, overview.held, list(overview.jobs))
    spaces = tuple(one for one in overview.spaces if name in (one.embedding_version, one.provider))
    held = tuple(one for one in overview.held if one.provider in (name, *(space.provider for space in spaces)))
    if not spaces and not held:
        known = ", ".join(one.embedding_version for one in overview.spaces) or "none"
        raise CommandError(f"there is no space {name!r}", f"spaces: {known}")
    names = [space.embedding_version for space in spaces]
    return Observed(document, overview, spaces, held, [one for one in overview.jobs if one.embedding_version in names])


class FillWatch:
    """Looks once a second until the fills are done, or cannot go on, or the time is up."""

    def __init__(self, session: Session, name: str | None, limit_seconds: float) -> None:
        self._session = session
        self._name = name
        self._polling = Polling(limit_seconds)
        self._printed: Any = None
        self._filling_at = time.monotonic()

    def until_done(self) -> tuple[Observed, ExitCode]:
        """The last look, and the exit code."""
        with bars(self._session.screen) as show:
            while True:
                seen = self._polling.look(lambda: observe(self._session, self._name))
                if seen is not None:
                    show(_bars(seen))
                    self._print(seen)
                    code = self._verdict(seen)
                    if code is not None:
                        return seen, code
                self._polling.sleep()

    def _print(self, seen: Observed) -> None:
        """With --json a line for what has changed."""
        if self._session.screen.as_json and seen.document != self._printed:
            self._session.screen.json_line(seen.document)
            self._printed = seen.document

    def _verdict(self, seen: Observed) -> ExitCode | None:
        if seen.goes_on:
            self._filling_at = time.monotonic()
        else:
            code = _ended(seen)
            if code is ExitCode.DONE or time.monotonic() - self._filling_at >= SETTLING_SECONDS:
                return code
        if not self._polling.is_over:
            return None
        no_answer = any(space.trouble for space in seen.filling)
        return ExitCode.EMBEDDER_NOT_SET_UP if no_answer else ExitCode.GATE_NOT_PASSED


def _ended(seen: Observed) -> ExitCode:
    """What to exit with when nothing is being filled any more."""
    if seen.held:
        return ExitCode.CONSENT_REQUIRED
    if seen.stopped:
        budget = any(job.paused_for == "budget" for job in seen.stopped)
        return ExitCode.BUDGET_REACHED if budget else ExitCode.GATE_NOT_PASSED
    return ExitCode.NO_EMBEDDER if verdict(seen.overview, ()) is ExitCode.NO_EMBEDDER else ExitCode.DONE


def _bars(seen: Observed) -> dict[str, Bar]:
    fills = {space.embedding_version: Bar(space.coverage, _remark(space, seen.job_of(space))) for space in seen.filling}
    # A rebuild works on a space that is ready, and a reindex on all of them: there the job tells how far it is.
    others = {f"job {job.id}": job_bar(job) for job in seen.open_jobs if job.embedding_version not in fills}
    return fills | others


def _remark(space: SpaceDocument, job: JobDocument | None) -> str:
    if space.trouble:
        return f"waits: {space.trouble}"
    if job is not None and job.state == "paused":
        return f"paused: {job.message}" if job.message else "paused"
    if job is None or not job.rate:
        return space.state
    return "building the index" if space.coverage >= 1 else ", ".join(speed_and_price(job))
