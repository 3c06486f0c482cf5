"""One project: how much of it there is, what each space has of it, and what to do about what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from memory_operator.client.errors import CommandError, RefusedError
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.project_schemas import ProjectCoverageDocument, ProjectStatsDocument
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import JobDocument, OverviewDocument
from memory_operator.client.session import Session
from memory_operator.client.terminal.format import number, share
from memory_operator.client.terminal.table import Columns

_SPACES = Columns(
    ("SPACE", "STATE", "VECTORS", "COVERAGE", "MISSING", "PENDING", "QUARANTINED"),
    figures=("VECTORS", "COVERAGE", "MISSING", "PENDING", "QUARANTINED"),
    fold=("STATE", "PENDING", "QUARANTINED", "VECTORS"),
)


def project_of(api: ApiClient, project: str | None) -> dict[str, Any]:
    """A part of an answer about a project; empty where none is named. Raises CommandError for an unknown one."""
    if project is None:
        return {}
    try:
        return {"project": api.get(paths.PROJECT_STATS, project=project)}
    except RefusedError as refusal:
        if refusal.status != 404:
            raise
        raise CommandError(refusal.detail, refusal.hint) from refusal


def project_fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of a project, for people."""
    if not found:
        return []
    stats = read(ProjectStatsDocument, found["project"])
    return [
        ("project", stats.project),
        ("tenant", stats.tenant),
        (f"memories of {stats.project}", number(stats.memories)),
        (f"chunks of {stats.project}", number(stats.chunks)),
    ]


def show_project(session: Session, found: dict[str, Any], overview: OverviewDocument | None) -> None:
    """What each space has of a project, and below it what is wrong, each with what to do."""
    if not found:
        return
    stats = read(ProjectStatsDocument, found["project"])
    if stats.spaces:
        session.screen.line()
        session.screen.table(_SPACES, [_row(space) for space in stats.spaces])
    for cause, remedy in findings(stats, overview):
        session.screen.remark(f"! {cause}", "yellow")
        session.screen.remark(f"hint: {remedy}")


def _row(space: ProjectCoverageDocument) -> tuple[str, ...]:
    return (
        space.embedding_version,
        space.state,
        number(space.vectors),
        share(space.coverage),
        number(space.missing),
        number(space.pending),
        number(space.quarantined),
    )


def findings(stats: ProjectStatsDocument, overview: OverviewDocument | None) -> Iterator[tuple[str, str]]:
    """Why queries may find less in a project than it has: each cause with its remedy."""
    project = stats.project
    if not stats.memories:
        yield f"{project} has no memories", f"look for them: memory query TEXT -p NAME; memory add TEXT -p {project}"
    if stats.outdated:
        what = f"{number(stats.outdated)} memories of {project} were cut by other rules"
        yield what, f"memory embeddings reindex --project {project}"
    if stats.rewriting:
        yield f"the words of {project} are still being indexed anew", "wait; memory language shows when it is done"
    if overview is not None:
        yield from _of_store(overview)
    jobs = overview.jobs if overview is not None else ()
    for space in stats.spaces:
        yield from _of_space(project, space, jobs)


def _of_store(overview: OverviewDocument) -> Iterator[tuple[str, str]]:
    if overview.semantic_status in ("no_active_space", "disabled"):
        choose = "memory embeddings list, then memory embeddings activate NAME"
        none = "apply a Provider with role embedding"
        yield "no space is active, so that words alone answer", choose if overview.spaces else none
    for space in overview.spaces:
        if space.trouble:
            remedy = f"memory doctor; kubectl describe provider {space.provider.partition('/')[2]}"
            yield f"the embedder of {space.embedding_version} gives no vectors: {space.trouble}", remedy


def _of_space(project: str, space: ProjectCoverageDocument, jobs: Sequence[JobDocument]) -> Iterator[tuple[str, str]]:
    name = space.embedding_version
    if space.missing:
        open_job = next(
            (one for one in jobs if one.embedding_version == name and one.state in ("running", "paused")), None
        )
        remedy = f"memory embeddings reembed --project {project} --space {name}"
        if open_job is not None:
            resumes = f"memory embeddings resume {open_job.id}"
            remedy = resumes if open_job.state == "paused" else "wait for it: memory embeddings status --watch"
        yield f"{number(space.missing)} chunks of {project} have no vector in {name}", remedy
    if space.pending:
        what = f"{number(space.pending)} chunks of {project} wait for the embedder of {name}"
        yield what, "they are embedded as soon as it answers; memory doctor says whether it does"
    if space.quarantined:
        what = f"{number(space.quarantined)} chunks of {project} are refused by the embedder of {name}"
        yield what, f"memory embeddings quarantine --space {name}"
