"""`memory show`, `history`, `edit` and `delete`: one memory and its versions."""

from __future__ import annotations

from typing import Annotated

import typer

from memory_operator.client.errors import MisuseError
from memory_operator.client.options import (
    BeforeOption,
    ConfidenceOption,
    ImportanceOption,
    LimitOption,
    MemoryId,
    MetaOption,
    SourceOption,
    SummaryOption,
    TagOption,
    TypeOption,
    YesOption,
    given,
    metadata,
)
from memory_operator.client.server import paths
from memory_operator.client.server.memory_ids import memory_named
from memory_operator.client.server.schemas import AddedDocument, HistoryDocument, MemoryDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import json_text, moment, one_line
from memory_operator.client.terminal.table import Columns

HISTORY_TEXT_CHARACTERS = 80

_HISTORY = Columns(("VERSION", "WHEN", "BY", "TEXT"), figures=("VERSION",), text=("TEXT", "BY"), fold=("BY",))

app = typer.Typer()


@command(app, "show")
def show(session: Session, memory_id: MemoryId) -> None:
    """Show one memory as it is now."""
    memory = session.answer(MemoryDocument, session.api.get(paths.memory(memory_named(session.api, memory_id))))
    if memory is None:
        return
    pairs = [
        ("id", memory.id),
        ("project", memory.project),
        ("version", str(memory.version_no)),
        ("created", f"{moment(memory.created_at)} by {memory.created_by or '–'}"),
        ("type", memory.type or ""),
        ("tags", ", ".join(memory.tags)),
        ("source", memory.source or ""),
        ("importance", _figure(memory.importance)),
        ("confidence", _figure(memory.confidence)),
        ("metadata", json_text(memory.metadata, indent=None) if memory.metadata else ""),
        ("summary", memory.summary or ""),
        ("embedded", memory.embedding_version or memory.embedding_status or ""),
    ]
    session.screen.fields([(name, value) for name, value in pairs if value])
    session.screen.line()
    session.screen.line(memory.text or "")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


@command(app, "history")
def history(
    session: Session,
    memory_id: MemoryId,
    limit: LimitOption = 50,
    before: BeforeOption = None,
) -> None:
    """Show the versions of a memory, newest first, the deletion too.

    Queries find the newest one alone. Where that says what was true once, `memory edit` replaces it.

    [bold]Examples[/]

      memory history 3f2a
    """
    path = paths.memory(memory_named(session.api, memory_id), "/history")
    found = session.answer(HistoryDocument, session.api.get(path, limit=limit, before_version=before))
    if found is None:
        return
    session.screen.table(_HISTORY, [_row(version) for version in found.versions])
    session.hint_at_more("--before", found.next_before_version)
    if found.versions and before is None:
        _show_which_answers(session, found.versions[0])


def _show_which_answers(session: Session, newest: MemoryDocument) -> None:
    """Which version queries find, and how that is changed."""
    if newest.tombstone or newest.purged:
        session.screen.remark(f"queries do not find it any more, since version {newest.version_no}")
        return
    session.screen.remark(f"queries find version {newest.version_no} alone")
    session.screen.remark(f"hint: memory edit {newest.id} replaces it")


def _row(version: MemoryDocument) -> tuple[str, ...]:
    gone = "(deleted)" if version.tombstone else "(erased)" if version.purged else ""
    text = gone or one_line(version.text or "", HISTORY_TEXT_CHARACTERS)
    return (str(version.version_no), moment(version.created_at), version.created_by or "–", text)


@command(app, "edit")
def edit(
    session: Session,
    memory_id: MemoryId,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The new text.")] = None,
    summary: SummaryOption = None,
    memory_type: TypeOption = None,
    tag: TagOption = None,
    source: SourceOption = None,
    importance: ImportanceOption = None,
    confidence: ConfidenceOption = None,
    meta: MetaOption = None,
) -> None:
    """Give a memory a new version; what is not named stays, and earlier versions stay in its history.

    --tag and --meta replace all the tags and all the metadata.
    """
    body = given(text=text, summary=summary, type=memory_type, tags=tag, source=source)
    body |= given(importance=importance, confidence=confidence, metadata=metadata(meta))
    if not body:
        raise MisuseError("nothing to change", "give a new text, or options such as --tag")
    edited = session.answer(AddedDocument, session.api.patch(paths.memory(memory_named(session.api, memory_id)), body))
    if edited is None:
        return
    session.screen.line(f"{edited.id} is at version {edited.version_no} now")
    if edited.embedding_status == "pending":
        session.screen.remark("its embedding is pending, so only full-text search finds it for now")


@command(app, "delete")
def delete(
    session: Session,
    memory_id: MemoryId,
    purge: Annotated[
        bool, typer.Option("--purge", help="Erase the text and all its versions and vectors for good.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Delete a memory; with --purge erase it, its history and its vectors in every space.

    Without --purge the history stays readable. A purge asks first; where nobody can be asked it needs --yes.
    """
    memory_id = memory_named(session.api, memory_id)
    path = paths.memory(memory_id)
    if purge and not yes:
        session.ask_first(
            f"Erase {memory_id} and all its versions for good?",
            (),
            risk="a purge cannot be undone",
            hint="repeat with --yes",
            declined="not erased",
        )
    document = session.api.delete(path, **({"purge": "true"} if purge else {}))
    done = {"status": "deleted", "id": memory_id} if document is None else document
    session.report(done, f"{memory_id} {'erased' if purge else 'deleted'}")
