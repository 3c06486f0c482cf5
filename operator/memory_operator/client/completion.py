"""Names that the shell completes by asking the server: within a second, and silently without them otherwise."""

from __future__ import annotations

import os

import typer

from memory_operator.client.answers import Spaces, read
from memory_operator.client.api import Api
from memory_operator.client.failures import CommandError
from memory_operator.client.session import Options, read_target

PATIENCE_SECONDS = 1.0


def complete_space(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of spaces that begin like this, each with its Provider and state."""
    before = ctx.obj if isinstance(ctx.obj, Options) else Options()
    options = Options(ctx.params.get("server") or before.server, ctx.params.get("token_file") or before.token_file)
    try:
        target = read_target(options, os.environ)
        with Api(target, answer_seconds=PATIENCE_SECONDS, attempts=1) as api:
            spaces = read(Spaces, api.get("/v1/embeddings/spaces")).spaces
    except CommandError:
        # Nobody has asked for this list: a prompt is no place for an error.
        return []
    return [
        (space.embedding_version, f"{space.provider}, {space.state}")
        for space in spaces
        if space.embedding_version.startswith(incomplete)
    ]
