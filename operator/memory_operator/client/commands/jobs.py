"""`memory embeddings jobs`, and steering one of them: pause, resume, cancel."""

from __future__ import annotations

from typing import Annotated

import typer

from memory_operator.client.commands.overview import progress, show_paused
from memory_operator.client.completion import complete_job
from memory_operator.client.server.job_schemas import JobsDocument
from memory_operator.client.server.schemas import JobDocument, read
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.console import duration, moment, number, price

JOBS = "/v1/jobs"

app = typer.Typer()

JobId = Annotated[
    int,
    typer.Argument(
        metavar="ID", min=1, help="The job's number; `memory embeddings jobs` lists them.", autocompletion=complete_job
    ),
]


@command(app, "jobs")
def jobs(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many.")] = 20,
    before: Annotated[int | None, typer.Option("--before", min=1, help="Only those before this number.")] = None,
) -> None:
    """List the jobs that fill spaces or cut memories anew, newest first."""
    screen = session.screen
    with session.api() as api:
        document = api.get(JOBS, limit=limit, before=before)
    if screen.as_json:
        screen.document(document)
        return
    found = read(JobsDocument, document)
    if not found.jobs:
        screen.remark("there is no job; `memory embeddings reembed` starts one where something is missing")
        return
    screen.table(
        ("ID", "KIND", "SPACE", "PROJECT", "STATE", "DONE", "TOTAL", "LEFT", "TOKENS", "COST", "REFUSED", "SINCE"),
        [_row(job) for job in found.jobs],
        right=("ID", "DONE", "TOTAL", "LEFT", "TOKENS", "COST", "REFUSED"),
        whole=("SPACE", "STATE", "SINCE"),
    )
    for job in found.jobs:
        if job.state == "paused":
            show_paused(session, job)
    if found.next_before is not None:
        screen.remark(f"hint: earlier ones: --before {found.next_before}")


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
    with session.api() as api:
        document = api.post(f"{JOBS}/{number}/{verb}", {})
    if session.screen.as_json:
        session.screen.document(document)
        return
    job = read(JobDocument, document)
    session.screen.line(f"job {job.id} of {job.name} is {job.state}: {progress(job)}")
