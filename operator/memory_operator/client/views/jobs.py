"""Jobs: one line each, a table of them, and what lets a paused one go on."""

from __future__ import annotations

from memory_operator.client.server.schemas import JobDocument
from memory_operator.client.session import Session
from memory_operator.client.terminal.format import duration, number, price
from memory_operator.client.terminal.progress import Bar


def progress(job: JobDocument) -> str:
    """How far a job is, how fast it goes, how long it takes, and what it has cost."""
    return ", ".join([f"{number(job.done)} of {number(job.total)}", *speed_and_price(job)])


def speed_and_price(job: JobDocument) -> list[str]:
    """How fast a job goes, how long it takes, and what it has used, as far as that is known."""
    parts = [f"{job.rate:,.0f}/s"] if job.rate else []
    if job.eta_seconds is not None:
        parts.append(f"{duration(job.eta_seconds)} left")
    if job.tokens is not None:
        parts.append(f"{number(job.tokens)} tokens")
    if job.cost is not None:
        parts.append(price(job.cost, job.currency))
    return parts


def job_bar(job: JobDocument) -> Bar:
    """A job as a progress bar."""
    fraction = 1.0 if job.state == "done" or not job.total else min(1.0, job.done / job.total)
    return Bar(fraction, _sentence(job))


def _sentence(job: JobDocument) -> str:
    return f"{job.kind} of {job.embedding_version or 'all spaces'}: {job.state}, {progress(job)}"


def show_job(session: Session, job: JobDocument) -> None:
    """One line about a job that is under way; where somebody has to see to it, one about what to do."""
    session.screen.line(f"job {job.id}, {_sentence(job)}")
    show_if_paused(session, job)


def show_if_paused(session: Session, job: JobDocument) -> None:
    """Why a job stands still, and what lets it go on."""
    screen = session.screen
    if job.state != "paused":
        return
    if job.paused_for == "budget":
        screen.remark(f"! job {job.id} of {job.name} is paused: {job.message or 'its budget is used up'}", "yellow")
        screen.remark("hint: raise spec.embedding.budget of its Provider: the job then goes on by itself")
    else:
        screen.remark(f"! job {job.id} of {job.name} is paused", "yellow")
        screen.remark(f"hint: memory embeddings resume {job.id}")
