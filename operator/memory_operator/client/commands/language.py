"""`memory language`: the language of a project's words."""

from __future__ import annotations

from typing import Annotated

import typer

from memory_operator.client.options import ProjectOption
from memory_operator.client.server import paths
from memory_operator.client.server.project_schemas import ProjectsWordsDocument, ProjectWordsDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.table import Columns

_PROJECTS = Columns(("PROJECT", "LANGUAGE", "INDEXED IN", ""), text=("INDEXED IN",), fold=("INDEXED IN",))

app = typer.Typer()


@command(app, "language")
def language(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(metavar="LANGUAGE", help="auto, or such as english, german, simple.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Show the language of each project's words, or set that of one.

    auto looks at script and small words of each piece of text. Setting a language, also the one that is set, has
    stored memories indexed anew: in place, without any call to an embedder, while they are found as before.

    [bold]Examples[/]

      memory language
      memory language german --project notizen
    """
    if name is None:
        found = session.answer(ProjectsWordsDocument, session.api.get(paths.PROJECTS))
        if found is not None:
            shown = [one for one in found.projects if project in (None, one.project)]
            session.screen.table(_PROJECTS, [_row(one) for one in shown])
        return
    body = {"project": project or "default", "language": name}
    changed = session.answer(ProjectWordsDocument, session.api.post(paths.PROJECT_LANGUAGE, body))
    if changed is not None:
        session.screen.line(f"words of project {changed.project}: {changed.language}")
        session.screen.remark(
            "stored memories are indexed anew in the background; `memory language` shows when it is done"
        )


def _row(one: ProjectWordsDocument) -> tuple[str, ...]:
    return (one.project, one.language, ", ".join(one.languages), "being indexed anew" if one.rewriting else "")
