"""`memory query`, `show`, `history`, `edit` and `delete`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import quote

import typer

from memory_operator.client.commands.options import (
    ConfidenceOption,
    ImportanceOption,
    MetaOption,
    ProjectOption,
    SourceOption,
    SummaryOption,
    TagOption,
    TypeOption,
    fields,
    metadata,
)
from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.server.schemas import (
    AddedDocument,
    FoundDocument,
    HistoryDocument,
    MemoryDocument,
    QueryDiagnosticsDocument,
    read,
)
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.console import json_text, moment, one_line, share

HISTORY_TEXT_CHARACTERS = 80

app = typer.Typer()

MemoryId = Annotated[str, typer.Argument(metavar="ID", help="The id that `memory add` and `memory query` print.")]


def _path(memory_id: str, rest: str = "") -> str:
    if not memory_id.strip():
        raise MisuseError("the id is empty")
    return f"/memory/{quote(memory_id, safe='')}{rest}"


@command(app, "query")
def query(
    session: Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, max=200, help="How many results.")] = 10,
    memory_type: Annotated[str | None, typer.Option("--type", help="Only memories of this type.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only memories with this tag; may be repeated.")] = None,
    source: Annotated[str | None, typer.Option(help="Only memories from this source.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only memories stored after it, such as 2026-01-31.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Only memories stored before it.")] = None,
) -> None:
    """Find memories by meaning and by words.

    In a pipe every result is one line: id, score, kind of match and text, separated by tabs.

    [bold]Examples[/]

      memory query "when is staging rebuilt?"
      memory query staging -k 3 --tag ops --after 2026-01-31 --json
    """
    filters = fields(type=memory_type, tags=tag, source=source)
    filters |= fields(created_after=_time(after), created_before=_time(before))
    body = fields(query=text, project=project, k=limit, filters=filters or None)
    with session.api() as api:
        document = api.post("/memory/query", body)
    if session.screen.as_json:
        session.screen.document(document)
        return
    _show_found(session, read(FoundDocument, document), project or "default")


def _time(text: str | None) -> str | None:
    """A moment as the server wants it; one without a zone is of this machine's."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise MisuseError(f"{text!r} is not a time", "such as 2026-01-31 or 2026-01-31T12:00:00Z") from error


def _show_found(session: Session, found: FoundDocument, project: str) -> None:
    screen = session.screen
    for rank, hit in enumerate(found.results, 1):
        if not screen.is_terminal:
            screen.line("\t".join((hit.id, f"{hit.score:.4f}", hit.match_kind, one_line(hit.text))))
            continue
        screen.line(f"{rank}. {hit.id}  {hit.match_kind}  {hit.score:.4f}", "bold")
        for line in hit.text.splitlines() or [""]:
            screen.line(f"   {line}")
    if not found.results:
        screen.remark(f"nothing found in project {project}")
    if remark := _remark_on(found.diagnostics):
        screen.remark(remark, "yellow")


def _remark_on(diagnostics: QueryDiagnosticsDocument) -> str:
    """What a reader must know about an answer that is not the full one."""
    reason = f" ({diagnostics.reason})" if diagnostics.reason else ""
    match diagnostics.semantic_status:
        case "ok":
            return f"full-text only: semantic search took no part{reason}" if reason else ""
        case "filling":
            return f"partial: {share(diagnostics.coverage)} of the chunks have a vector; full-text stands in"
        case "no_active_space":
            return f"full-text only: no space is active{reason}; see memory embeddings list"
        case "embedder_unavailable":
            return f"full-text only: the embedder did not answer{reason}; see memory embeddings status"
        case "disabled":
            return "full-text only: semantic search is off; turn it on with memory embeddings activate NAME"
        case other:
            return f"semantic search: {other}{reason}"


@command(app, "show")
def show(session: Session, memory_id: MemoryId) -> None:
    """Show one memory as it is now."""
    with session.api() as api:
        document = api.get(_path(memory_id))
    if session.screen.as_json:
        session.screen.document(document)
        return
    memory = read(MemoryDocument, document)
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
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many versions.")] = 50,
    before: Annotated[int | None, typer.Option("--before", min=1, help="Only versions below this number.")] = None,
) -> None:
    """Show the versions of a memory, newest first, the deletion too."""
    with session.api() as api:
        document = api.get(_path(memory_id, "/history"), limit=limit, before_version=before)
    screen = session.screen
    if screen.as_json:
        screen.document(document)
        return
    found = read(HistoryDocument, document)
    screen.table(
        ("VERSION", "WHEN", "BY", "TEXT"),
        [
            (
                str(version.version_no),
                moment(version.created_at),
                version.created_by or "–",
                _short(version),
            )
            for version in found.versions
        ],
        right=("VERSION",),
        whole=("WHEN",),
    )
    if found.next_before_version is not None:
        screen.remark(f"hint: earlier versions: --before {found.next_before_version}")


def _short(version: MemoryDocument) -> str:
    if version.tombstone:
        return "(deleted)"
    return "(erased)" if version.purged else one_line(version.text or "", HISTORY_TEXT_CHARACTERS)


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
    body = fields(text=text, summary=summary, type=memory_type, tags=tag, source=source)
    body |= fields(importance=importance, confidence=confidence, metadata=metadata(meta))
    if not body:
        raise MisuseError("nothing to change", "give a new text, or options such as --tag")
    with session.api() as api:
        document = api.patch(_path(memory_id), body)
    if session.screen.as_json:
        session.screen.document(document)
        return
    edited = read(AddedDocument, document)
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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a memory; with --purge erase it, its history and its vectors in every space.

    Without --purge the history stays readable. A purge asks first; where nobody can be asked it needs --yes.
    """
    screen = session.screen
    if purge and not yes:
        if not screen.may_ask:
            raise MisuseError("a purge cannot be undone", "repeat with --yes")
        if not screen.confirm(f"Erase {memory_id} and all its versions for good?"):
            raise CommandError("not erased")
    with session.api() as api:
        document = api.delete(_path(memory_id), **({"purge": "true"} if purge else {}))
    if screen.as_json:
        screen.document(document if document is not None else {"status": "deleted", "id": memory_id})
    else:
        screen.line(f"{memory_id} {'erased' if purge else 'deleted'}")
