"""`memory doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from memory_operator.client.errors import CommandError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.options import YesOption
from memory_operator.client.server import paths
from memory_operator.client.server.diagnosis import DoctorDocument, FindingDocument, RepairDocument
from memory_operator.client.server.reading import read
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import number

_DRIFT_SECONDS = 5.0
"""How far the clocks of this machine and of the server may differ: the answer is under way for some of it."""

_NARROWEST = 40
_STYLES = {"fail": "red", "warn": "yellow", "ok": "green"}
_WORDS = {"skipped": "–", "not_permitted": "–"}

app = typer.Typer()


@command(app, "doctor")
def doctor(
    session: Session,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Mend what is safe to mend: free ranges that a dead worker left, drop indexes that a build left"
            " incomplete, make missing vectors and try refused chunks again (this one asks, and says what it costs).",
        ),
    ] = False,
    yes: YesOption = False,
    calls: Annotated[
        bool, typer.Option("--calls/--no-calls", help="Call the embedder of each Provider once, for a few tokens.")
    ] = True,
) -> None:
    """Look at everything, and say what is wrong and what to do about it.

    Database, extension, schema, master key, each Provider by one real call, spaces, indexes, jobs, clocks, webhook and
    disk: each is OK, WARN or FAIL. docs/runbook.md has a row for each check. Exits with 1 where one fails.

    [bold]Examples[/]

      memory doctor
      memory doctor --no-calls --json
      memory doctor --fix --yes
    """
    document = session.api.post(paths.DOCTOR, {"calls": calls})
    now = datetime.now(UTC)
    found = read(DoctorDocument, document)
    clock = _own_clock(found, now)
    if clock is not None:
        found.checks = (*found.checks, clock)
        document["checks"].append(_as_document(clock))
    if session.screen.as_json:
        session.screen.document({**document, "problems": [_problem(each) for each in found.checks if _is_wrong(each)]})
    else:
        _show(session, found.checks)
    failed = [each for each in found.checks if each.result == "fail"]
    if fix:
        mended = _mend(session, found.checks, yes=yes)
        failed = [each for each in failed if each not in mended]
    session.end(ExitCode.FAILED if failed else ExitCode.DONE)


def _own_clock(found: DoctorDocument, now: datetime) -> FindingDocument | None:
    """What is wrong with the clock of this machine, or of the server; None where nothing is."""
    seconds = (now - found.at).total_seconds()
    if abs(seconds) < _DRIFT_SECONDS:
        return None
    clock = FindingDocument()
    clock.check, clock.result = "clocks", "warn"
    clock.message = (
        f"this machine's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the server's"
    )
    clock.remedy = "let NTP set both clocks"
    return clock


def _as_document(finding: FindingDocument) -> dict[str, Any]:
    shown = {name: getattr(finding, name) for name in ("check", "result", "subject", "message", "remedy")}
    return {**shown, "repair": None}


def _is_wrong(finding: FindingDocument) -> bool:
    return finding.result in ("warn", "fail")


def _problem(finding: FindingDocument) -> dict[str, str]:
    what = f"{finding.subject}: {finding.message}" if finding.subject else finding.message
    return {"what": what, "do": finding.remedy}


def _show(session: Session, findings: Sequence[FindingDocument]) -> None:
    for each in findings:
        what = f"{each.subject}: {each.message}" if each.subject else each.message
        word = _WORDS.get(each.result, each.result.upper())
        for line in _lines(session, f"{word:<5} {each.check:<13} ", what):
            session.screen.line(line, _STYLES.get(each.result, ""))
        if each.remedy and _is_wrong(each):
            for line in _lines(session, f"{'':<20}→ ", each.remedy):
                session.screen.line(line)
    count = {result: sum(each.result == result for each in findings) for result in ("fail", "warn")}
    if not any(count.values()):
        session.screen.remark("nothing is wrong")
        return
    session.screen.remark(f"{count['fail']} FAIL, {count['warn']} WARN")
    if any(each.repair for each in findings):
        session.screen.remark("hint: memory doctor --fix mends some of it")


def _lines(session: Session, start: str, text: str) -> list[str]:
    """A text behind its beginning; on a terminal in as many lines as it takes, below each other."""
    if not session.screen.is_terminal:
        return [start + text]
    width = max(_NARROWEST, shutil.get_terminal_size().columns)
    indent = " " * len(start)
    wrapped = textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapped or [start]


def _mend(session: Session, findings: Sequence[FindingDocument], *, yes: bool) -> list[FindingDocument]:
    """Do what is safe, and what costs something if that is wanted; what was mended."""
    mended = []
    for finding, repair in _repairs(findings):
        try:
            if repair.kind == "reembed":
                _ask_for(session, repair, yes=yes)
                session.api.post(paths.REEMBED, {"embedding_version": repair.subject})
                session.screen.remark(f"{repair.subject}: what is missing is being made")
            else:
                body = {"kind": repair.kind, **({"subject": repair.subject} if repair.subject else {})}
                session.api.post(paths.DOCTOR_REPAIR, body)
                session.screen.remark(f"{repair.subject or finding.check}: mended")
        except CommandError as error:
            session.screen.remark(f"! not mended: {error.detail}{f'; {error.hint}' if error.hint else ''}", "red")
        else:
            mended.append(finding)
    return mended


def _repairs(findings: Sequence[FindingDocument]) -> Iterator[tuple[FindingDocument, RepairDocument]]:
    return ((each, each.repair) for each in findings if each.repair is not None)


def _ask_for(session: Session, repair: RepairDocument, *, yes: bool) -> None:
    """Raises MisuseError where nobody can be asked, CommandError for a no."""
    cost = (
        f"{repair.cost} {repair.currency}" if repair.cost is not None else "at a price that its Provider does not say"
    )
    what = f"to fill {repair.subject} takes about {number(repair.tokens)} tokens, {cost}"
    if yes or not repair.tokens:
        session.screen.remark(what)
        return
    session.ask_first(
        "fill it?", [what], risk=f"{what}; nobody can be asked here", hint="give --yes", declined="it was not wanted"
    )
