"""`memory status`, `activities` and `stats`: the store in a few lines, what happened in it, and counts."""

from __future__ import annotations

from typing import Any

import typer

from memory_operator.client.errors import MisunderstoodError
from memory_operator.client.options import AnyProjectOption, BeforeOption, CheckOption, LimitOption
from memory_operator.client.server import paths
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import ActivitiesDocument, ActivityDocument, OverviewDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import json_text, moment, number, one_line
from memory_operator.client.terminal.table import Columns
from memory_operator.client.views.jobs import show_if_paused
from memory_operator.client.views.projects import project_fields, project_of, show_project
from memory_operator.client.views.spaces import semantic_sentence, show_held, verdict

DETAIL_CHARACTERS = 100

_ACTIVITIES = Columns(("WHEN", "WHAT", "OF", "BY", "DETAIL"), text=("DETAIL", "BY"), fold=("DETAIL", "BY"))

app = typer.Typer()


@command(app, "status")
def status(session: Session, project: AnyProjectOption = None, check: CheckOption = False) -> None:
    """Say in a few lines whether the server answers and how well it can search.

    With --project also what that project has in each space, what is wrong with it and what to do, and whose token this
    is; spaces, jobs and chunks are those of the whole store.

    [bold]Examples[/]

      memory status
      memory status --project notes
      memory status --check || echo "needs a look"
    """
    document = session.api.get(paths.STATUS)
    overview = read(OverviewDocument, document)
    found = project_of(session.api, project)
    if session.screen.as_json:
        session.screen.document({**document, **found})
    else:
        _show_summary(session, overview, project_fields(found))
        show_project(session, found, overview)
    if check:
        session.end(verdict(overview, overview.held))


def _show_summary(session: Session, overview: OverviewDocument, more: list[tuple[str, str]]) -> None:
    active = overview.active
    states = [job.state for job in overview.jobs]
    session.screen.fields(
        [
            ("server", session.api.target.url),
            ("semantic search", semantic_sentence(overview)),
            ("active space", f"{active.embedding_version} of {active.provider}" if active else "none"),
            ("chunks", number(overview.chunks)),
            ("spaces", number(len(overview.spaces))),
            ("jobs under way", number(states.count("running"))),
            ("paused jobs", number(states.count("paused"))),
            ("held changes", number(len(overview.held))),
            *more,
        ]
    )
    for job in overview.jobs:
        show_if_paused(session, job)
    show_held(session, overview.held)


@command(app, "activities")
def activities(session: Session, limit: LimitOption = 50, before: BeforeOption = None) -> None:
    """Show what happened: consents, activations, changes and purges, with who, when and from where; newest first."""
    found = session.answer(ActivitiesDocument, session.api.get(paths.ACTIVITY, limit=limit, before=before))
    if found is None:
        return
    session.screen.table(_ACTIVITIES, [_activity_row(one) for one in found.activities])
    session.hint_at_more("--before", found.next_before)


def _activity_row(one: ActivityDocument) -> tuple[str, ...]:
    detail = ", ".join(f"{name}={_plain(value)}" for name, value in (one.detail or {}).items())
    by = f"{one.actor} ({one.origin})" if one.origin and one.origin != one.actor else one.actor
    return (moment(one.at), one.kind, one.subject, by, one_line(detail, DETAIL_CHARACTERS))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value, indent=None)


@command(app, "stats")
def stats(session: Session, project: AnyProjectOption = None) -> None:
    """Show counts.

    With --project those of that project: its memories and chunks, and what each space has of it.

    [bold]Examples[/]

      memory stats
      memory stats --project notes
    """
    if project is not None:
        found = project_of(session.api, project)
        if session.screen.as_json:
            session.screen.document(found["project"])
        else:
            session.screen.fields(project_fields(found))
            show_project(session, found, None)
        return
    document = session.api.get(paths.STATS)
    if session.screen.as_json:
        session.screen.document(document)
        return
    if not isinstance(document, dict):
        raise MisunderstoodError("the server's counts were not understood", "--json prints the answer as it is")
    session.screen.fields([pair for name, value in document.items() for pair in _counts(name, value)])


def _counts(name: str, value: Any) -> list[tuple[str, str]]:
    if name == "projects" and isinstance(value, list):
        return [(f"memories of {one.get('project')}", _count(one.get("memories"))) for one in value]
    return [(name.replace("_", " "), _count(value))]


def _count(value: Any) -> str:
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else _plain(value)
