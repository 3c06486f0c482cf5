"""`memory list` and `memory export`: the memories of a tenant, page by page or all of them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.options import AnyProjectOption, BeforeOption, LimitOption
from memory_operator.client.server import paths
from memory_operator.client.server.memory_ids import pages
from memory_operator.client.server.schemas import MemoriesDocument, MemoryDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import json_text, moment, number, one_line
from memory_operator.client.terminal.table import Columns

TEXT_CHARACTERS = 200
ADDABLE = ("text", "project", "summary", "type", "tags", "source", "importance", "confidence", "metadata")
"""What `memory add --file` takes of a memory."""

_MEMORIES = Columns(
    ("ID", "PROJECT", "TYPE", "CREATED", "TEXT"), text=("TEXT",), fold=("TEXT", "TYPE", "PROJECT", "CREATED")
)

app = typer.Typer()


@command(app, "list")
def list_memories(
    session: Session, project: AnyProjectOption = None, limit: LimitOption = 50, before: BeforeOption = None
) -> None:
    """List memories as they are now, newest first."""
    document = session.api.get(paths.MEMORIES, project=project, limit=limit, before=before)
    found = session.answer(MemoriesDocument, document)
    if found is None:
        return
    if not found.memories:
        session.screen.remark("there is no memory" + (f" in project {project}" if project else ""))
        return
    session.screen.table(_MEMORIES, [_row(memory) for memory in found.memories])
    session.hint_at_more("--before", found.next_before)


def _row(memory: MemoryDocument) -> tuple[str, ...]:
    text = one_line(memory.text or "", TEXT_CHARACTERS)
    return (memory.id, memory.project, memory.type or "–", moment(memory.created_at), text)


@command(app, "export")
def export(
    session: Session,
    project: AnyProjectOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file; stdout if left out.")
    ] = None,
) -> None:
    """Write every memory as it is now, a JSON object a line, newest first.

    `memory add --file` takes such a file. With --json each line is the server's whole document, with its id, version
    and times.

    [bold]Examples[/]

      memory export --project notes -o notes.jsonl
      memory export --json | jq .id
    """
    written = 0
    with _opened(output) as file:
        for page in pages(session.api, project):
            for memory in page:
                file.write(json_text(memory if session.screen.as_json else _addable(memory), indent=None) + "\n")
            written += len(page)
            file.flush()
    if output is not None:
        session.screen.remark(f"{number(written)} memories written to {output}")


@contextlib.contextmanager
def _opened(output: Path | None) -> Any:
    """Where to write; an existing file is left as it is. Raises MisuseError, CommandError."""
    if output is None:
        yield sys.stdout
        return
    try:
        file: TextIO = output.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise MisuseError(f"{output} is there already", "name a new file") from error
    except OSError as error:
        raise MisuseError(f"{output} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from error


def _addable(memory: dict[str, Any]) -> dict[str, Any]:
    return {name: memory[name] for name in ADDABLE if memory.get(name) not in (None, [])}
