"""`memory embeddings jobs`, and steering one of them: pause, resume, cancel."""

from __future__ import annotations

import typer

from memory_operator.client.options import BeforeOption, JobId, LimitOption
from memory_operator.client.server import paths
from memory_operator.client.server.schemas import JobDocument, JobsDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import duration, moment, number, price
from memory_operator.client.terminal.table import Columns
from memory_operator.client.views.jobs import progress, show_if_paused

_JOBS = Columns(
    ("ID", "KIND", "SPACE", "PROJECT", "STATE", "DONE", "TOTAL", "LEFT", "TOKENS", "COST", "REFUSED", "SINCE"),
    figures=("ID", "DONE", "TOTAL", "LEFT", "TOKENS", "COST", "REFUSED"),
    text=("PROJECT",),
    fold=("SINCE", "COST", "TOKENS", "PROJECT", "REFUSED", "LEFT", "KIND"),
)

app = typer.Typer()


@command(app, "jobs")
def jobs(session: Session, limit: LimitOption = 20, before: BeforeOption = None) -> None:
    """List the jobs that fill spaces or cut memories anew, newest first."""
    found = session.answer(JobsDocument, session.api.get(paths.JOBS, limit=limit, before=before))
    if found is None:
        return
    if not found.jobs:
        session.screen.remark("there is no job; `memory embeddings reembed` starts one where something is missing")
        return
    session.screen.table(_JOBS, [_row(job) for job in found.jobs])
    for job in found.jobs:
        show_if_paused(session, job)
    session.hint_at_more("--before", found.next_before)


def _row(job: JobDocument) -> tuple[str, ...]:
    return (
        str(job.id),
        job.kind,
        job.embedding_version or "all",
        job.project or "all",
        job.state,
        number(job.done),
        number(job.total),
        duration(job.eta_seconds),
        number(job.tokens),
        price(job.cost, job.currency),
        number(job.quarantined),
        moment(job.created_at),
    )


@command(app, "pause")
def pause(session: Session, number: JobId) -> None:
    """Let no further call leave for a job until it is resumed; calls under way are still stored."""
    _steer(session, number, "pause")


@command(app, "resume")
def resume(session: Session, number: JobId) -> None:
    """Let a paused job go on.

    One that waits for its budget goes on by itself when spec.embedding.budget of its Provider is raised, or on the
    next day; as long as that is used up this is refused with exit code 8.
    """
    _steer(session, number, "resume")


@command(app, "cancel")
def cancel(session: Session, number: JobId) -> None:
    """End a job. The vectors that it has stored stay; `memory embeddings reembed` makes the others later."""
    _steer(session, number, "cancel")


def _steer(session: Session, number: int, verb: str) -> None:
    job = session.answer(JobDocument, session.api.post(paths.job(number, verb), {}))
    if job is not None:
        session.screen.line(f"job {job.id} of {job.name} is {job.state}: {progress(job)}")
