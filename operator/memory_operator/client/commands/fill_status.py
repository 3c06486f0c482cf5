"""`memory embeddings status`: the spaces, their fills and what is held; once, or until the fills are done."""

from __future__ import annotations

from typing import Annotated

import typer

from memory_operator.client.completion import complete_space
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.options import AnyProjectOption, CheckOption, seconds_of
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import number
from memory_operator.client.views.fill_watch import FillWatch, Observed, observe
from memory_operator.client.views.jobs import show_job
from memory_operator.client.views.projects import project_fields, project_of, show_project
from memory_operator.client.views.spaces import semantic_sentence, show_held, show_spaces, verdict

app = typer.Typer()


@command(app, "status")
def status(
    session: Session,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only this space, or this Provider's.", autocompletion=complete_space),
    ] = None,
    project: AnyProjectOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show the fills until they are done; implies --check.")
    ] = False,
    timeout: Annotated[str, typer.Option(help="How long to watch at most, such as 30m.")] = "24h",
    check: CheckOption = False,
) -> None:
    """Show the spaces, the fills that are under way and the changes that wait for consent.

    With --project also what that project has in each space, what is wrong with it and what to do.

    With --watch a bar shows progress, rate, time left, tokens and cost of each fill on a terminal; in a pipe it is
    silent until the end, and with --json it prints one document a line whenever something has changed.

    It ends when every space that is being filled is ready, with exit code 0; earlier with 7 when what is left waits
    for consent, with 8 when it waits for its budget, and with 9 when it was paused or cancelled; after --timeout with
    3 when an embedder does not answer, else with 9.

    [bold]Examples[/]

      memory embeddings status
      memory embeddings status --project notes
      memory embeddings status nomic-embed-text-768-3 --watch --timeout 30m
    """
    if watch:
        with session.interruptible("the jobs go on; `memory embeddings pause ID` stops one for now"):
            seen, code = FillWatch(session, name, seconds_of(timeout)).until_done()
    else:
        seen = observe(session, name)
        code = verdict(seen.overview, seen.held) if check else ExitCode.DONE
    found = project_of(session.api, project)
    if not session.screen.as_json:
        _show(session, seen, project_fields(found))
        show_project(session, found, seen.overview)
    elif not watch:
        session.screen.document({**seen.document, **found})
    session.end(code)


def _show(session: Session, seen: Observed, more: list[tuple[str, str]]) -> None:
    screen = session.screen
    screen.fields(
        [("semantic search", semantic_sentence(seen.overview)), ("chunks", number(seen.overview.chunks)), *more]
    )
    screen.line()
    show_spaces(session, seen.spaces)
    for job in seen.open_jobs:
        show_job(session, job)
    for space in seen.spaces:
        if space.pending:
            screen.line(f"{space.embedding_version}: {number(space.pending)} chunks wait for the embedder")
    show_held(session, seen.held)
