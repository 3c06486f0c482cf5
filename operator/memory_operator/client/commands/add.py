"""`memory add`: one memory from the command line or stdin, or many from a file."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from memory_operator.client.bulk.bulk_add import Account, Sending, Trouble
from memory_operator.client.bulk.lines import (
    EVERY_LINE,
    LineSet,
    RowFormat,
    count_lines,
    format_of,
    read_rows,
)
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
from memory_operator.client.errors import MisuseError
from memory_operator.client.server.schemas import AddedDocument, read
from memory_operator.client.session import Session, command

SHOWN_TROUBLES = 20
SHOWN_LINES_CHARACTERS = 400
MAX_STDIN_BYTES = 1 << 20

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the lines come from."""

    path: Path
    row_format: RowFormat
    wanted: LineSet

    @property
    def is_stdin(self) -> bool:
        return str(self.path) == "-"

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file, read from its beginning. Raises MisuseError."""
        if self.is_stdin:
            yield sys.stdin.buffer
            return
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise MisuseError(f"{self.path} cannot be read: {error.strerror}") from error
        with file:
            yield file


FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="Add one memory a line; - reads the lines from stdin.")
]
FormatOption = Annotated[
    Literal["lines", "jsonl"] | None,
    typer.Option(
        "--format",
        help="What a line of --file is: a text, or a JSON object with `text` and any of `summary`, `type`, `tags`, "
        "`source`, `importance`, `confidence`, `metadata`, `project`. By default the file's name decides: .jsonl "
        "and .ndjson hold objects.",
    ),
]
LinesOption = Annotated[
    str | None, typer.Option("--lines", help="Only these lines of --file, such as 3,7-9,40- (to take a run up again).")
]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", min=1, max=64, help="Requests at a time with --file.")]


@command(app, "add")
def add(
    session: Session,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The text; - reads it from stdin.")] = None,
    file: FileOption = None,
    row_format: FormatOption = None,
    lines: LinesOption = None,
    project: ProjectOption = None,
    summary: SummaryOption = None,
    memory_type: TypeOption = None,
    tag: TagOption = None,
    source: SourceOption = None,
    importance: ImportanceOption = None,
    confidence: ConfidenceOption = None,
    meta: MetaOption = None,
    in_flight: ConcurrencyOption = 8,
) -> None:
    """Store a memory, or with --file one for every line of a file.

    Prints the id of the memory. With --file the options describe every line; a JSON line may say otherwise. Lines
    that the server refuses are skipped and named at the end, together with the --lines that take the run up again.
    An interrupt (Ctrl-C) lets the requests in flight finish.

    Exit code with --file: 0 all stored, 5 some, 6 none.

    [bold]Examples[/]

      memory add "The staging cluster is rebuilt every Monday." --tag ops
      git log -1 --format=%B | memory add - --project notes
      memory add --file observations.jsonl --project notes
    """
    described = fields(project=project, summary=summary, type=memory_type, tags=tag, source=source)
    described |= fields(importance=importance, confidence=confidence, metadata=metadata(meta))
    if file is not None:
        if text is not None:
            raise MisuseError("TEXT and --file exclude each other")
        wanted = EVERY_LINE if lines is None else LineSet.parse(lines)
        _add_many(session, _Source(file, row_format or format_of(file), wanted), described, in_flight)
    elif text is None or lines is not None or row_format is not None:
        raise MisuseError("give a text, - for stdin, or --file", "memory add --help shows examples")
    else:
        _add_one(session, {"text": _stdin_text() if text == "-" else text, **described})


def _stdin_text() -> str:
    content = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(content) > MAX_STDIN_BYTES:
        raise MisuseError(f"the text on stdin is longer than {MAX_STDIN_BYTES:,} bytes", "split it, or use --file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MisuseError("the text on stdin is not UTF-8") from error


def _add_one(session: Session, body: dict[str, Any]) -> None:
    with session.api() as api:
        document = api.post("/memory/add", body)
    screen = session.screen
    if screen.as_json:
        screen.document(document)
        return
    added = read(AddedDocument, document)
    screen.line(added.id)
    if added.embedding_status == "pending":
        screen.remark("stored; its embedding is pending, so only full-text search finds it for now")
    elif screen.is_terminal:
        screen.remark(f"stored in project {added.project}, embedded as {added.embedding_version}", "dim")


def _add_many(session: Session, source: _Source, body: dict[str, Any], in_flight: int) -> None:
    account = Account(wanted=source.wanted, keep_answers=session.screen.as_json)
    total = count_lines(source.path) if not source.is_stdin and session.screen.may_animate else None
    with source.opened() as file, session.api() as api, _progress(session, total, account) as tell:
        sending = Sending(api, body, in_flight=in_flight, account=account)
        sending.send(read_rows(file, source.row_format, source.wanted), tell)
    _report(session, source, account)
    session.end(account.exit_code)


@contextlib.contextmanager
def _progress(session: Session, total: int | None, account: Account) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere."""
    with Progress(
        TextColumn("adding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[refused]}"),
        TimeRemainingColumn(),
        console=session.screen.err,
        transient=True,
        disable=not session.screen.may_animate,
    ) as progress:
        task = progress.add_task("", total=total, refused="")

        def tell() -> None:
            troubles = len(account.refused) + len(account.failed) + len(account.unknown)
            refused = f"{troubles:,} not stored" if troubles else ""
            progress.update(task, completed=account.stored + troubles, refused=refused)

        yield tell


def _report(session: Session, source: _Source, account: Account) -> None:
    screen = session.screen
    if screen.as_json:
        screen.document(account.document)
        return
    waiting = f" ({account.pending:,} wait for the embedder)" if account.pending else ""
    screen.line(f"{account.stored:,} stored{waiting}")
    _name(session, "refused", account.refused)
    _name(session, "failed", account.failed)
    _name(session, "never answered, perhaps stored", account.unknown)
    if account.stopped_by is not None:
        screen.failure(account.stopped_by)
    if account.interrupted:
        screen.remark("interrupted", "yellow")
    again = LineSet.of(trouble.line for trouble in account.refused)
    if again:
        screen.remark(f"hint: correct these lines, then add them with --lines {_shortened(again)}")
    if account.remaining:
        screen.remark(f"hint: take it up again with: {_command_line(source, account.remaining)}")


def _name(session: Session, what: str, troubles: list[Trouble]) -> None:
    if not troubles:
        return
    session.screen.remark(f"{len(troubles):,} {what}:", "yellow")
    for trouble in sorted(troubles, key=lambda one: one.line)[:SHOWN_TROUBLES]:
        session.screen.remark(f"  line {trouble.line}: {trouble.detail}")
    if len(troubles) > SHOWN_TROUBLES:
        session.screen.remark(f"  … and {len(troubles) - SHOWN_TROUBLES:,} more; --json names them all")


def _shortened(lines: LineSet) -> str:
    text = str(lines)
    return text if len(text) <= SHOWN_LINES_CHARACTERS else text[:SHOWN_LINES_CHARACTERS].rpartition(",")[0] + ",…"


def _command_line(source: _Source, lines: LineSet) -> str:
    shown = _shortened(lines)
    return f"memory add --file {shlex.quote(str(source.path))} --lines {shown}"
