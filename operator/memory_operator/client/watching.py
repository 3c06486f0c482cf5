"""`memory embeddings status`: the spaces, their fills and what is held; once, or until the fills are done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from memory_operator.client.answers import Fill, Overview, Space, read
from memory_operator.client.api import Api
from memory_operator.client.completion import complete_space
from memory_operator.client.consent import seconds_of, show_held
from memory_operator.client.exits import ExitCode
from memory_operator.client.failures import CommandError, RefusedError, UnreachableError
from memory_operator.client.overview import (
    STATUS,
    CheckOption,
    semantic_sentence,
    show_fill,
    show_spaces,
    verdict,
)
from memory_operator.client.screen import duration, number, one_line, share
from memory_operator.client.session import Session, command

POLL_SECONDS = 1.0
SETTLING_SECONDS = 3.0
"""An edit or a consent of a moment ago needs so long to show, so nothing is called final before."""
ABSENCE_SECONDS = 60.0
"""How long a server that is being restarted may be away during --watch."""
TROUBLE_CHARACTERS = 60

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

    With --watch a bar shows progress, rate and time left of each fill on a terminal; in a pipe it is silent until the
    end. It ends when every space that is being filled is ready, with exit code 0; earlier with 7 when what is left
    waits for consent, and after --timeout with 3 when an embedder does not answer, else with 9.

    [bold]Examples[/]

      memory embeddings status
      memory embeddings status nomic-embed-text-768-3 --watch --timeout 30m
    """
    with session.api() as api:
        if watch:
            seen, code = _Watch(session, api, name, seconds_of(timeout)).until_done()
        else:
            seen = _look(api, name)
            code = verdict(seen.overview) if check else ExitCode.DONE
    if session.screen.as_json:
        session.screen.document(seen.document)
    else:
        _show(session, seen)
    session.end(code)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The state of the store at one moment."""

    document: Any
    overview: Overview
    spaces: list[Space]
    """Those that were asked for."""

    @property
    def filling(self) -> list[Space]:
        return [space for space in self.spaces if space.state == "filling"]

    def fill_of(self, space: Space) -> Fill | None:
        return next((fill for fill in self.overview.jobs if fill.embedding_version == space.embedding_version), None)


def _look(api: Api, name: str | None) -> _Seen:
    document = api.get(STATUS)
    overview = read(Overview, document)
    if name is None:
        return _Seen(document, overview, overview.spaces)
    spaces = [one for one in overview.spaces if name in (one.embedding_version, one.provider)]
    held = [one for one in overview.held if one.provider in (name, *(space.provider for space in spaces))]
    if not spaces and not held:
        known = ", ".join(one.embedding_version for one in overview.spaces) or "none"
        raise CommandError(f"there is no space {name!r}", f"spaces: {known}")
    return _Seen(document, overview.model_copy(update={"held": held}), spaces)


def _show(session: Session, seen: _Seen) -> None:
    screen = session.screen
    screen.fields([("semantic search", semantic_sentence(seen.overview)), ("chunks", number(seen.overview.chunks))])
    screen.line()
    show_spaces(session, seen.spaces)
    for space in seen.spaces:
        fill = seen.fill_of(space)
        if fill is not None and fill.state not in ("done", "cancelled"):
            show_fill(session, fill)
        if space.pending:
            screen.line(f"{space.embedding_version}: {number(space.pending)} chunks wait for the embedder")
    for held in seen.overview.held:
        show_held(session, held)


class _Watch:
    """Looks once a second until the fills are done, or cannot go on, or the time is up."""

    def __init__(self, session: Session, api: Api, name: str | None, limit_seconds: float) -> None:
        self._session = session
        self._api = api
        self._name = name
        self._ends_at = time.monotonic() + limit_seconds
        self._answered_at = time.monotonic()

    def until_done(self) -> tuple[_Seen, ExitCode]:
        """The last look, and the exit code."""
        started = time.monotonic()
        with self._bars() as show:
            while True:
                seen = self._look()
                now = time.monotonic()
                if seen is not None:
                    show(seen)
                    if not seen.filling:
                        code = _ended(seen)
                        if code is ExitCode.DONE or now - started >= SETTLING_SECONDS:
                            return seen, code
                    else:
                        started = now
                    if now >= self._ends_at:
                        return seen, _unfinished(seen)
                time.sleep(max(0.0, min(POLL_SECONDS, self._ends_at - time.monotonic())))

    def _look(self) -> _Seen | None:
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

    @contextlib.contextmanager
    def _bars(self) -> Iterator[Callable[[_Seen], None]]:
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[share]}"),
            TextColumn("{task.fields[remark]}"),
            console=self._session.screen.err,
            transient=True,
            disable=not self._session.screen.may_animate,
        )
        tasks: dict[str, TaskID] = {}

        def show(seen: _Seen) -> None:
            shown = {space.embedding_version: space for space in seen.spaces}
            for version, space in shown.items():
                if version not in tasks and space.state == "filling":
                    tasks[version] = progress.add_task(one_line(version), total=1.0, share="", remark="")
                if version in tasks:
                    remark = one_line(_remark(space, seen.fill_of(space)), TROUBLE_CHARACTERS)
                    progress.update(
                        tasks[version], completed=space.coverage, share=share(space.coverage), remark=remark
                    )
            for version in tasks.keys() - shown.keys():
                progress.remove_task(tasks.pop(version))

        with progress:
            yield show


def _remark(space: Space, fill: Fill | None) -> str:
    if space.state == "ready":
        return "ready"
    if space.trouble:
        return f"waits: {space.trouble}"
    if fill is None or not fill.rate:
        return space.state
    if space.coverage >= 1:
        return "building the index"
    return f"{fill.rate:,.0f}/s, {duration(fill.eta_seconds)} left"


def _ended(seen: _Seen) -> ExitCode:
    """What to exit with when nothing is being filled."""
    if seen.overview.held:
        return ExitCode.CONSENT_REQUIRED
    return ExitCode.NO_EMBEDDER if verdict(seen.overview) is ExitCode.NO_EMBEDDER else ExitCode.DONE


def _unfinished(seen: _Seen) -> ExitCode:
    troubled = any(space.trouble for space in seen.filling)
    return ExitCode.EMBEDDER_NOT_SET_UP if troubled else ExitCode.GATE_NOT_PASSED
