"""`memory embeddings status`: the spaces, their fills and what is held; once, or until the fills are done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from memory_operator.client.commands.consent import seconds_of, show_held
from memory_operator.client.commands.overview import (
    STATUS,
    CheckOption,
    semantic_sentence,
    show_job,
    show_spaces,
    spent,
    verdict,
)
from memory_operator.client.completion import complete_space
from memory_operator.client.errors import CommandError, RefusedError, UnreachableError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.schemas import JobDocument, OverviewDocument, SpaceDocument, read
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.console import duration, number
from memory_operator.client.terminal.progress import Bar, bars

POLL_SECONDS = 1.0
SETTLING_SECONDS = 3.0
"""An edit or a consent of a moment ago needs so long to show, so nothing is called final before."""
ABSENCE_SECONDS = 60.0
"""How long a server that is being restarted may be away during --watch."""

_STOPPED = ("paused", "cancelled")

app = typer.Typer()


@command(app, "status")
def status(
    session: Session,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only this space, or this Provider's.", autocompletion=complete_space),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show the fills until they are done; implies --check.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="How long to watch at most, such as 30m.")] = "24h",
    check: CheckOption = False,
) -> None:
    """Show the spaces, the fills that are under way and the changes that wait for consent.

    With --watch a bar shows progress, rate, time left, tokens and cost of each fill on a terminal; in a pipe it is
    silent until the end, and with --json it prints one document a line whenever something has changed.

    It ends when every space that is being filled is ready, with exit code 0; earlier with 7 when what is left waits
    for consent, with 8 when it waits for its budget, and with 9 when it was paused or cancelled; after --timeout with
    3 when an embedder does not answer, else with 9.

    [bold]Examples[/]

      memory embeddings status
      memory embeddings status nomic-embed-text-768-3 --watch --timeout 30m
    """
    with session.api() as api:
        if watch:
            seen, code = _FillWatch(session, api, name, seconds_of(timeout)).until_done()
        else:
            seen = _look(api, name)
            code = verdict(seen.overview) if check else ExitCode.DONE
    if not session.screen.as_json:
        _show(session, seen)
    elif not watch:
        session.screen.document(seen.document)
    session.end(code)


@dataclass(frozen=True, slots=True)
class _Observed:
    """The state of the store at one moment."""

    document: Any
    overview: OverviewDocument
    spaces: list[SpaceDocument]
    """Those that were asked for."""

    @property
    def filling(self) -> list[SpaceDocument]:
        return [space for space in self.spaces if space.state == "filling"]

    @property
    def stopped(self) -> list[JobDocument]:
        """The jobs of filling spaces, where each of these has one and none of them runs."""
        jobs = [self.job_of(space) for space in self.filling]
        return [job for job in jobs if job] if all(job and job.state in _STOPPED for job in jobs) else []

    def job_of(self, space: SpaceDocument) -> JobDocument | None:
        return next((job for job in self.overview.jobs if job.embedding_version == space.embedding_version), None)


def _look(api: ApiClient, name: str | None) -> _Observed:
    document = api.get(STATUS)
    overview = read(OverviewDocument, document)
    if name is None:
        return _Observed(document, overview, overview.spaces)
    spaces = [one for one in overview.spaces if name in (one.embedding_version, one.provider)]
    held = [one for one in overview.held if one.provider in (name, *(space.provider for space in spaces))]
    if not spaces and not held:
        known = ", ".join(one.embedding_version for one in overview.spaces) or "none"
        raise CommandError(f"there is no space {name!r}", f"spaces: {known}")
    return _Observed(document, overview.model_copy(update={"held": held}), spaces)


def _show(session: Session, seen: _Observed) -> None:
    screen = session.screen
    screen.fields([("semantic search", semantic_sentence(seen.overview)), ("chunks", number(seen.overview.chunks))])
    screen.line()
    show_spaces(session, seen.spaces)
    for space in seen.spaces:
        job = seen.job_of(space)
        if job is not None and job.state not in ("done", "cancelled"):
            show_job(session, job)
        if space.pending:
            screen.line(f"{space.embedding_version}: {number(space.pending)} chunks wait for the embedder")
    for held in seen.overview.held:
        show_held(session, held)


class _FillWatch:
    """Looks once a second until the fills are done, or cannot go on, or the time is up."""

    def __init__(self, session: Session, api: ApiClient, name: str | None, limit_seconds: float) -> None:
        self._session = session
        self._api = api
        self._name = name
        self._ends_at = time.monotonic() + limit_seconds
        self._answered_at = time.monotonic()
        self._printed: Any = None

    def until_done(self) -> tuple[_Observed, ExitCode]:
        """The last look, and the exit code."""
        started = time.monotonic()
        with bars(self._session.screen) as show:
            while True:
                seen = self._look()
                now = time.monotonic()
                if seen is not None:
                    show(_bars(seen))
                    self._print(seen)
                    if not seen.filling or seen.stopped:
                        code = _ended(seen)
                        if code is ExitCode.DONE or now - started >= SETTLING_SECONDS:
                            return seen, code
                    else:
                        started = now
                    if now >= self._ends_at:
                        return seen, _unfinished(seen)
                time.sleep(max(0.0, min(POLL_SECONDS, self._ends_at - time.monotonic())))

    def _print(self, seen: _Observed) -> None:
        """With --json a line for what has changed."""
        if self._session.screen.as_json and seen.document != self._printed:
            self._session.screen.json_line(seen.document)
            self._printed = seen.document

    def _look(self) -> _Observed | None:
        """A look, or None while the server is away for a moment."""
        try:
            seen = _look(self._api, self._name)
        except (UnreachableError, RefusedError) as failure:
            passing = isinstance(failure, UnreachableError) or failure.status in (502, 503, 504)
            now = time.monotonic()
            if not passing or now - self._answered_at > ABSENCE_SECONDS or now >= self._ends_at:
                raise
            return None
        self._answered_at = time.monotonic()
        return seen


def _bars(seen: _Observed) -> dict[str, Bar]:
    return {
        space.embedding_version: Bar(space.coverage, _remark(space, seen.job_of(space)))
        for space in seen.spaces
        if space.state == "filling"
    }


def _remark(space: SpaceDocument, job: JobDocument | None) -> str:
    if space.trouble:
        return f"waits: {space.trouble}"
    if job is not None and job.state == "paused":
        return f"paused: {job.message}" if job.message else "paused"
    if job is None or not job.rate:
        return space.state
    if space.coverage >= 1:
        return "building the index"
    return ", ".join([f"{job.rate:,.0f}/s", f"{duration(job.eta_seconds)} left", *spent(job)])


def _ended(seen: _Observed) -> ExitCode:
    """What to exit with when nothing is being filled any more."""
    if seen.overview.held:
        return ExitCode.CONSENT_REQUIRED
    if seen.stopped:
        waits = any(job.paused_for == "budget" for job in seen.stopped)
        return ExitCode.BUDGET_REACHED if waits else ExitCode.GATE_NOT_PASSED
    return ExitCode.NO_EMBEDDER if verdict(seen.overview) is ExitCode.NO_EMBEDDER else ExitCode.DONE


def _unfinished(seen: _Observed) -> ExitCode:
    troubled = any(space.trouble for space in seen.filling)
    return ExitCode.EMBEDDER_NOT_SET_UP if troubled else ExitCode.GATE_NOT_PASSED
