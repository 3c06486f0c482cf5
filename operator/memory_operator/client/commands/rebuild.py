"""`memory embeddings reembed`, `rebuild` and `reindex`: fill what is missing, replace what is there, cut anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from memory_operator.client.completion import complete_project
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.options import DryRunOption, SpaceOption, YesOption, given, seconds_of
from memory_operator.client.server import paths
from memory_operator.client.server.begun import BegunDocument, EstimateDocument, PlannedDocument
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import JobDocument
from memory_operator.client.server.space_names import space_named
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import duration, number, price
from memory_operator.client.terminal.table import Columns
from memory_operator.client.views.job_wait import JobWait
from memory_operator.client.views.jobs import show_job
from memory_operator.client.views.preflight import lines_of, preflight
from memory_operator.client.views.skipped import show_skipped

_FIGURES = ("CHUNKS", "THERE", "COPIED", "TO EMBED", "TOKENS", "COST", "TIME", "TOO LARGE", "RETRIED")
_ESTIMATES = Columns(
    ("SPACE", "PROVIDER", *_FIGURES),
    figures=_FIGURES,
    fold=("PROVIDER", "RETRIED", "TOO LARGE", "COPIED", "THERE", "CHUNKS"),
)

app = typer.Typer()

ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        "--namespace",
        "-p",
        metavar="NAME",
        help="Only this project; the whole store if left out.",
        autocompletion=complete_project,
    ),
]
MaxRowsOption = Annotated[
    int | None,
    typer.Option("--max-rows", min=1, metavar="N", help="End after so many chunks of each space, the oldest first."),
]
SleepOption = Annotated[
    int,
    typer.Option("--sleep-ms", min=0, max=60_000, metavar="MS", help="How long a worker waits between two calls."),
]
SkipOption = Annotated[
    bool, typer.Option("--skip-current-space", help="Leave out chunks that have a vector of the space already.")
]
UnusedYesOption = Annotated[bool, typer.Option("--yes", "-y", hidden=True)]
"""Of commands that ask nothing; scripts may say it all the same."""
WaitOption = Annotated[bool, typer.Option("--wait", "-w", help="Wait until the jobs have ended.")]
TimeoutOption = Annotated[str, typer.Option(help="How long to wait at most, such as 30m.")]


@command(app, "reembed")
def reembed(
    session: Session,
    project: ProjectOption = None,
    space: SpaceOption = None,
    max_rows: MaxRowsOption = None,
    sleep_ms: SleepOption = 0,
    skip_current_space: SkipOption = True,
    dry_run: DryRunOption = False,
    yes: UnusedYesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = "24h",
) -> None:
    """Make the vectors that are missing, and try refused chunks again; those that are there stay.

    Before it begins it says on stderr what there is, what it takes and what cannot be undone. Chunks that are refused
    or too large are skipped, and named with --wait. What a restart interrupts goes on by itself; given again, the
    command waits for the job that is there.

    With --wait it exits with 0 when all is done, 5 when some chunks were skipped, 6 when all were, 8 when the budget
    is used up, and 3 when the embedder does not answer; with 4 where there is no embedder.

    [bold]Examples[/]

      memory embeddings reembed --dry-run
      memory embeddings reembed --project notes --wait
      memory embeddings reembed --max-rows 1000 --sleep-ms 200 --wait
    """
    del yes, skip_current_space  # it never does otherwise
    scope = {**_scope(session, project, space), **_in_parts(max_rows, sleep_ms)}
    _run(session, paths.REEMBED, scope, dry_run=dry_run, wait=timeout if wait else "")


@command(app, "rebuild")
def rebuild(
    session: Session,
    project: ProjectOption = None,
    space: SpaceOption = None,
    max_rows: MaxRowsOption = None,
    sleep_ms: SleepOption = 0,
    skip_current_space: SkipOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = "24h",
) -> None:
    """Make all vectors anew, also those that are there; each is used until the new one is stored.

    It says on stderr what this takes and what cannot be undone, and asks first; where nobody can be asked it needs
    --yes. Chunks that are refused or too large are skipped, named with --wait, and keep the vector that they have. With
    --skip-current-space it does what reembed does. Exit codes as of reembed.

    [bold]Examples[/]

      memory embeddings rebuild --dry-run
      memory embeddings rebuild --project notes --yes --wait
    """
    scope = {**_scope(session, project, space), **_in_parts(max_rows, sleep_ms)}
    if not skip_current_space:
        scope["replace"] = True
    ask = "Make all of these vectors anew?" if not (yes or skip_current_space) else ""
    _run(session, paths.REEMBED, scope, dry_run=dry_run, wait=timeout if wait else "", ask=ask)


@command(app, "reindex")
def reindex(
    session: Session,
    project: ProjectOption = None,
    space: SpaceOption = None,
    dry_run: DryRunOption = False,
    yes: UnusedYesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = "24h",
) -> None:
    """Cut the stored memories into chunks anew, by the present rules, and fill every space.

    Texts that stay the same keep their vectors. With --space nothing is cut: what is missing there is filled, as
    reembed does. Exit codes as of reembed.
    """
    del yes
    _run(session, paths.REINDEX, _scope(session, project, space), dry_run=dry_run, wait=timeout if wait else "")


def _scope(session: Session, project: str | None, space: str | None) -> dict[str, Any]:
    return {**given(project=project), **space_named(session.api, space)}


def _in_parts(max_rows: int | None, sleep_ms: int) -> dict[str, Any]:
    return given(max_rows=max_rows, sleep_ms=sleep_ms or None)


def _run(session: Session, path: str, scope: dict[str, Any], *, dry_run: bool, wait: str, ask: str = "") -> None:
    """Say what it takes, ask where a question is given, begin, and wait for so long; not at all for an empty text."""
    wait_seconds = seconds_of(wait) if wait else None
    if dry_run:
        _show_dry_run(session, path, scope)
        return
    preflight(session, path, scope)
    if ask:
        session.ask_first(
            ask,
            (),
            risk="a rebuild pays for every vector again",
            hint="see what it takes with --dry-run, then give --yes",
            declined="nothing was begun",
        )
    document = session.api.post(path, {**scope, "dry_run": False})
    begun = read(BegunDocument, document)
    code, ended = ExitCode.DONE, list[JobDocument]()
    numbers = [job.id for job in _jobs(begun)]
    if numbers and wait_seconds is not None:
        pause = " and ".join(f"`memory embeddings pause {number}`" for number in numbers)
        with session.interruptible(f"the work goes on at the server; {pause} stops it for now"):
            ended, code = JobWait(session, numbers, wait_seconds).until_ended()
    if session.screen.as_json:
        jobs = {"jobs": [session.api.get(paths.job(job.id)) for job in ended]} if ended else {}
        session.screen.document({**document, **jobs})
    else:
        _show_begun(session, begun, ended)
    session.end(code)


def _show_dry_run(session: Session, path: str, scope: dict[str, Any]) -> None:
    document = session.api.post(path, {**scope, "dry_run": True})
    planned = session.answer(BegunDocument, document)
    if planned is not None:
        for line in lines_of(planned, scope):
            session.screen.remark(line)
        _show_estimates(session, planned)


def _jobs(begun: BegunDocument) -> list[JobDocument]:
    return [job for job in (begun.reindex, *(each.job for each in begun.spaces)) if job is not None]


def _show_begun(session: Session, begun: BegunDocument, ended: Sequence[JobDocument]) -> None:
    screen = session.screen
    for each in begun.spaces:
        if each.job is None:
            screen.line(f"{each.embedding_version}: nothing is missing")
    for now in ended or _jobs(begun):
        show_job(session, now)
        if now.quarantined:
            screen.remark(f"! {number(now.quarantined)} chunks were skipped and have no new vector", "yellow")
    show_skipped(session, ended)
    retried = sum(each.retried for each in begun.spaces)
    if retried:
        screen.line(f"{number(retried)} refused chunks are tried again")
    if not ended and _jobs(begun):
        screen.remark("hint: memory embeddings status --watch")


def _show_estimates(session: Session, begun: BegunDocument) -> None:
    if begun.memories is not None:
        session.screen.line(f"{number(begun.memories)} memories, {number(begun.outdated)} of them cut by other rules")
    session.screen.table(_ESTIMATES, [_row(each, each.estimate) for each in begun.spaces if each.estimate is not None])


def _row(each: PlannedDocument, estimate: EstimateDocument) -> tuple[str, ...]:
    return (
        each.embedding_version,
        each.provider,
        number(estimate.chunks),
        number(estimate.already_there),
        number(estimate.copied),
        number(estimate.to_embed),
        number(estimate.estimated_tokens),
        price(estimate.estimated_cost, estimate.currency),
        duration(estimate.estimated_seconds),
        number(estimate.too_large),
        number(each.retried),
    )
