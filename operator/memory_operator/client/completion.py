"""Names that the shell completes by asking the server: within a second, and silently without them otherwise."""

from __future__ import annotations

import os

import typer

from memory_operator.client.errors import CommandError
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.project_schemas import StatsDocument
from memory_operator.client.server.reading import A, read
from memory_operator.client.server.schemas import JobsDocument, SpacesDocument
from memory_operator.client.session import options_of, read_target

PATIENCE_SECONDS = 1.0


def complete_space(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of spaces that begin like this, each with its Provider and state."""
    found = _read(ctx, SpacesDocument, paths.SPACES)
    return [
        (space.embedding_version, f"{space.provider}, {space.state}")
        for space in (found.spaces if found else [])
        if space.embedding_version.startswith(incomplete)
    ]


def complete_job(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Numbers of jobs that have not ended, each with what it works on."""
    found = _read(ctx, JobsDocument, paths.JOBS)
    return [
        (str(job.id), f"{job.name}, {job.state}")
        for job in (found.jobs if found else [])
        if job.state in ("running", "paused") and str(job.id).startswith(incomplete)
    ]


def complete_project(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Projects of the caller's tenant, each with how many memories it has."""
    found = _read(ctx, StatsDocument, paths.STATS)
    return [
        (one.project, f"{one.memories} memories")
        for one in (found.projects if found else [])
        if one.project.startswith(incomplete)
    ]


def _read(ctx: typer.Context, model: type[A], path: str) -> A | None:
    options = options_of(ctx).overridden(ctx.params.get("server"), ctx.params.get("token_file"), as_json=False)
    try:
        target = read_target(options, os.environ)
        with ApiClient(target, answer_seconds=PATIENCE_SECONDS, attempts=1) as api:
            return read(model, api.get(path))
    except CommandError:
        # A prompt is no place for an error.
        return None
