"""`memory add`: one memory from the command line or stdin, or many from a file."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer

from memory_operator.client.bulk.bulk_add import Account, BulkAdd, LineFailure
from memory_operator.client.bulk.lines import (
    EVERY_LINE,
    LineSet,
    RowFormat,
    count_lines,
    format_of,
    read_rows,
)
from memory_operator.client.errors import MisuseError
from memory_operator.client.options import (
    ConfidenceOption,
    ImportanceOption,
    MetaOption,
    ProjectOption,
    SourceOption,
    SummaryOption,
    TagOption,
    TypeOption,
    given,
    metadata,
    stdin_text,
)
from memory_operator.client.server import paths
from memory_operator.client.server.schemas import AddedDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import duration, number
from memory_operator.client.terminal.progress import Bar, bars

SHOWN_FAILURES = 20
SHOWN_LINES_CHARACTERS = 400

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
    described = given(project=project, summary=summary, type=memory_type, tags=tag, source=source)
    described |= given(importance=importance, confidence=confidence, metadata=metadata(meta))
    if file is not None:
        if text is not None:
            raise MisuseError("TEXT and --file exclude each other")
        wanted = EVERY_LINE if lines is None else LineSet.parse(lines)
        _add_many(session, _Source(file, row_format or format_of(file), wanted), described, in_flight)
    elif text is None or lines is not None or row_format is not None:
        raise MisuseError("give a text, - for stdin, or --file", "memory add --help shows examples")
    else:
        _add_one(session, {"text": stdin_text() if text == "-" else text, **described})


def _add_one(session: Session, body: dict[str, Any]) -> None:
    added = session.answer(AddedDocument, session.api.post(paths.ADD, body))
    if added is None:
        return
    screen = session.screen
    screen.line(added.id)
    if added.embedding_status == "pending":
        screen.remark("stored; its embedding is pending, so only full-text search finds it for now")
    elif screen.is_terminal:
        screen.remark(f"stored in project {added.project}, embedded as {added.embedding_version}", "dim")


def _add_many(session: Session, source: _Source, body: dict[str, Any], in_flight: int) -> None:
    account = Account(wanted=source.wanted, keep_answers=session.screen.as_json)
    total = count_lines(source.path) if not source.is_stdin and session.screen.may_animate else None
    with source.opened() as file, _progress(session, total, account) as tell:
        rows = read_rows(file, source.row_format, source.wanted)
        BulkAdd(session.api, body, in_flight=in_flight, account=account).send(rows, tell)
    _report(session, source, account)
    session.end(account.exit_code)


@contextlib.contextmanager
def _progress(session: Session, total: int | None, account: Account) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere."""
    started = time.monotonic()
    with bars(session.screen) as show:
        yield lambda: show({"adding": _bar(account, total, time.monotonic() - started)})


def _bar(account: Account, total: int | None, seconds: float) -> Bar:
    failures = len(account.refused) + len(account.failed) + len(account.unknown)
    done = account.stored + failures
    remarks = [f"{number(done)} of {number(total)}" if total else number(done)]
    if failures:
        remarks.append(f"{number(failures)} not stored")
    if total and done:
        remarks.append(f"{duration(seconds * max(0, total - done) / done)} left")
    return Bar(min(1.0, done / total) if total else None, ", ".join(remarks))


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
    again = LineSet.of(failure.line for failure in account.refused)
    if again:
        screen.remark(f"hint: correct these lines, then add them with --lines {_shortened(again)}")
    if account.remaining:
        screen.remark(f"hint: take it up again with: {_command_line(source, account.remaining)}")


def _name(session: Session, what: str, failures: list[LineFailure]) -> None:
    if not failures:
        return
    session.screen.remark(f"{len(failures):,} {what}:", "yellow")
    for failure in sorted(failures, key=lambda one: one.line)[:SHOWN_FAILURES]:
        session.screen.remark(f"  line {failure.line}: {failure.detail}")
    if len(failures) > SHOWN_FAILURES:
        session.screen.remark(f"  … and {len(failures) - SHOWN_FAILURES:,} more; --json names them all")


def _shortened(lines: LineSet) -> str:
    text = str(lines)
    return text if len(text) <= SHOWN_LINES_CHARACTERS else text[:SHOWN_LINES_CHARACTERS].rpartition(",")[0] + ",…"


def _command_line(source: _Source, lines: LineSet) -> str:
    shown = _shortened(lines)
    return f"memory add --file {shlex.quote(str(source.path))} --lines {shown}"
