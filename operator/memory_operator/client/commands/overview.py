"""The state of the store for people, and `memory status`, `memory activities` and `memory stats`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memory_operator.client.commands.consent import show_held
from memory_operator.client.errors import MisunderstoodError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server.schemas import (
    ActivitiesDocument,
    ActivityDocument,
    JobDocument,
    OverviewDocument,
    SpaceDocument,
    WaitingDocument,
    read,
)
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.console import (
    duration,
    json_text,
    moment,
    number,
    one_line,
    price,
    share,
)

STATUS = "/v1/embeddings/status"
ENOUGH_COVERAGE = 0.99
DETAIL_CHARACTERS = 100

app = typer.Typer()

CheckOption = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Let the exit code tell: 0 semantic search is complete, 3 the active embedder does not answer, "
        "4 there is no embedder, 7 a change waits for consent, 9 the active space lacks vectors or none is active.",
    ),
]


def verdict(overview: OverviewDocument) -> ExitCode:
    """What `--check` exits with: the first of these that a person has to see to."""
    if overview.held:
        return ExitCode.CONSENT_REQUIRED
    # The status counts for itself: spaces that the caller may not see are not listed.
    match overview.semantic_status:
        case "ok":
            return ExitCode.DONE
        case "embedder_unavailable":
            return ExitCode.EMBEDDER_NOT_SET_UP
        case "no_active_space" if not overview.spaces:
            return ExitCode.NO_EMBEDDER
        case "filling" if overview.active is not None and overview.active.coverage >= ENOUGH_COVERAGE:
            return ExitCode.DONE
        case _:
            return ExitCode.GATE_NOT_PASSED


@command(app, "status")
def status(session: Session, check: CheckOption = False) -> None:
    """Say in a few lines whether the server answers and how well it can search.

    [bold]Examples[/]

      memory status
      memory status --check || echo "needs a look"
    """
    with session.api() as api:
        document = api.get(STATUS)
    overview = read(OverviewDocument, document)
    if session.screen.as_json:
        session.screen.document(document)
    else:
        _show_summary(session, overview)
    if check:
        session.end(verdict(overview))


def _show_summary(session: Session, overview: OverviewDocument) -> None:
    active = overview.active
    running = [job for job in overview.jobs if job.state == "running"]
    paused = [job for job in overview.jobs if job.state == "paused"]
    pairs = [
        ("server", session.target.url),
        ("semantic search", semantic_sentence(overview)),
        ("active space", f"{active.embedding_version} of {active.provider}" if active else "none"),
        ("chunks", number(overview.chunks)),
        ("spaces", number(len(overview.spaces))),
        ("jobs under way", number(len(running))),
        ("paused jobs", number(len(paused))),
        ("held changes", number(len(overview.held))),
    ]
    session.screen.fields(pairs)
    for job in paused:
        show_paused(session, job)
    for held in overview.held:
        show_held(session, held)


def semantic_sentence(overview: OverviewDocument) -> str:
    """How well queries can search by meaning."""
    active = overview.active
    match overview.semantic_status:
        case "ok":
            return "ok"
        case "filling":
            return f"partial: {share(active.coverage if active else None)} of the chunks have a vector"
        case "embedder_unavailable":
            return f"the embedder does not answer: {active.trouble if active else ''}".rstrip(": ")
        case "no_active_space":
            return "full-text only: no space is active"
        case "disabled":
            return "off (memory embeddings activate NAME turns it on)"
        case other:
            return other


def show_waiting(session: Session, waiting: list[WaitingDocument]) -> None:
    """The Providers that no space could be made for yet, and why."""
    for each in waiting:
        session.screen.remark(f"! {each.provider} has no space: {each.reason}: {each.message}", "red")


def show_spaces(session: Session, spaces: list[SpaceDocument]) -> None:
    """The table of spaces: * active, ! in trouble."""
    if not spaces:
        session.screen.remark("there is no space; it appears when a Provider with role embedding is applied")
        return
    session.screen.table(
        ("", "NAME", "PROVIDER", "DIMS", "STATE", "VECTORS", "COVERAGE", "QUARANTINED"),
        [
            (
                f"{'*' if space.active else ''}{'!' if space.trouble else ''}",
                space.embedding_version,
                space.provider,
                str(space.dimensions),
                space.state,
                number(space.vectors),
                share(space.coverage),
                number(space.quarantined),
            )
            for space in spaces
        ],
        right=("DIMS", "VECTORS", "COVERAGE", "QUARANTINED"),
        whole=("NAME",),
    )
    for space in spaces:
        if space.trouble:
            session.screen.remark(f"! {space.embedding_version}: {space.trouble}", "red")


def show_job(session: Session, job: JobDocument) -> None:
    """One line about a job that is under way; where somebody has to see to it, one about what to do."""
    session.screen.line(f"{job.name}: {job.state}, {progress(job)}")
    if job.state == "paused":
        show_paused(session, job)


def progress(job: JobDocument) -> str:
    """How far a job is, how fast it goes, how long it takes, and what it has cost."""
    parts = [f"{number(job.done)} of {number(job.total)}"]
    if job.rate:
        parts.append(f"{job.rate:,.0f}/s")
    if job.eta_seconds is not None:
        parts.append(f"{duration(job.eta_seconds)} left")
    return ", ".join([*parts, *spent(job)])


def spent(job: JobDocument) -> list[str]:
    """What a job has used, as far as that is known."""
    found = [] if job.tokens is None else [f"{number(job.tokens)} tokens"]
    return found if job.cost is None else [*found, price(job.cost, job.currency)]


def show_paused(session: Session, job: JobDocument) -> None:
    """Why a job stands still, and what lets it go on."""
    screen = session.screen
    if job.paused_for == "budget":
        screen.remark(f"! job {job.id} of {job.name} is paused: {job.message or 'its budget is used up'}", "yellow")
        screen.remark("hint: raise spec.embedding.budget of its Provider: the job then goes on by itself")
    else:
        screen.remark(f"! job {job.id} of {job.name} is paused", "yellow")
        screen.remark(f"hint: memory embeddings resume {job.id}")


@command(app, "activities")
def activities(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many.")] = 50,
    before: Annotated[int | None, typer.Option("--before", min=1, help="Only those before this id.")] = None,
) -> None:
    """Show what happened: consents, activations, changes and purges, with who, when and from where; newest first."""
    with session.api() as api:
        document = api.get("/activity", limit=limit, before=before)
    screen = session.screen
    if screen.as_json:
        screen.document(document)
        return
    found = read(ActivitiesDocument, document)
    rows = [_activity_row(one) for one in found.activities]
    screen.table(("WHEN", "WHAT", "OF", "BY", "DETAIL"), rows, whole=("WHEN", "WHAT"))
    if found.next_before is not None:
        screen.remark(f"hint: earlier ones: --before {found.next_before}")


def _activity_row(one: ActivityDocument) -> tuple[str, ...]:
    detail = ", ".join(f"{name}={_plain(value)}" for name, value in one.detail.items())
    by = f"{one.actor} ({one.origin})" if one.origin and one.origin != one.actor else one.actor
    return (moment(one.at), one.kind, one.subject, by, one_line(detail, DETAIL_CHARACTERS))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value, indent=None)


@command(app, "stats")
def stats(session: Session) -> None:
    """Show counts."""
    with session.api() as api:
        document = api.get("/v1/stats")
    if session.screen.as_json:
        session.screen.document(document)
        return
    if not isinstance(document, dict):
        raise MisunderstoodError("the server's counts were not understood", "--json prints the answer as it is")
    pairs = [(name.replace("_", " "), _count(value)) for name, value in document.items()]
    session.screen.fields(pairs)


def _count(value: Any) -> str:
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else _plain(value)
