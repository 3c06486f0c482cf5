"""`memory embeddings reembed`, `rebuild` and `reindex`: fill what is missing, replace what is there, cut anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.options import DryRunOption, SpaceOption, YesOption, given, seconds_of
from memory_operator.client.server import paths
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import BegunDocument, EstimateDocument, JobDocument, PlannedDocument
from memory_operator.client.server.space_names import space_named
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import duration, number, price
from memory_operator.client.terminal.table import Columns
from memory_operator.client.views.job_wait import JobWait
from memory_operator.client.views.jobs import show_job

_FIGURES = ("CHUNKS", "THERE", "COPIED", "TO EMBED", "TOKENS", "COST", "TIME", "TOO LARGE", "RETRIED")
_ESTIMATES = Columns(
    ("SPACE", "PROVIDER", *_FIGURES),
    figures=_FIGURES,
    fold=("PROVIDER", "RETRIED", "TOO LARGE", "COPIED", "THERE", "CHUNKS"),
)

app = typer.Typer()

ProjectOption = Annotated[
    str | None, typer.Option("--project", "-p", metavar="NAME", help="Only this project; the whole store if left out.")
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
    dry_run: DryRunOption = False,
    yes: UnusedYesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = "24h",
) -> None:
    """Make the vectors that are missing, and try refused chunks again; those that are there stay.

    With --wait it exits with 0 when all is done, 5 when some chunks were refused, 6 when all were, 8 when the budget
    is used up, and 3 when the embedder does not answer.

    [bold]Examples[/]

      memory embeddings reembed --dry-run
      memory embeddings reembed --project notes --space nomic-embed-text-768-3 --wait
    """
    del yes
    _run(session, paths.REEMBED, _scope(session, project, space), dry_run=dry_run, wait=timeout if wait else "")


@command(app, "rebuild")
def rebuild(
    session: Session,
    project: ProjectOption = None,
    space: SpaceOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = "24h",
) -> None:
    """Make all vectors anew, also those that are there; each is used until the new one is stored.

    It says what this takes and asks first; where nobody can be asked it needs --yes. Exit codes as of reembed.
    """
    scope = {**_scope(session, project, space), "replace": True}
    if not dry_run and not yes:
        session.ask_first(
            "Make all of these vectors anew?",
            _estimates(read(BegunDocument, session.api.post(paths.REEMBED, {**scope, "dry_run": True}))),
            risk="a rebuild pays for every vector again",
            hint="see what it takes with --dry-run, then give --yes",
            declined="nothing was begun",
        )
    _run(session, paths.REEMBED, scope, dry_run=dry_run, wait=timeout if wait else "")


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


def _run(session: Session, path: str, scope: dict[str, Any], *, dry_run: bool, wait: str) -> None:
    """Begin, and wait for so long; not at all for an empty text."""
    wait_seconds = seconds_of(wait) if wait else None
    document = session.api.post(path, {**scope, "dry_run": dry_run})
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
    elif dry_run:
        _show_estimates(session, begun)
    else:
        _show_begun(session, begun, ended)
    session.end(code)


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
            screen.remark(f"! {number(now.quarantined)} were refused by the embedder and have no new vector", "yellow")
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


def _estimates(planned: BegunDocument) -> Iterator[str]:
    """What a rebuild takes, a line for each space."""
    for each in planned.spaces:
        if each.estimate is not None:
            estimate = each.estimate
            cost = "an unknown price" if estimate.estimated_cost is None else price(estimate.estimated_cost)
            yield (
                f"{each.embedding_version} of {each.provider}: {number(estimate.to_embed)} texts, about"
                f" {number(estimate.estimated_tokens)} tokens, {cost}, {duration(estimate.estimated_seconds)}"
            )
