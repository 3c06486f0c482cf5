"""`memory embeddings list`, `activate`, `deactivate` and `prune`: which spaces there are, and which one is read."""

from __future__ import annotations

from typing import Annotated

import typer

from memory_operator.client.options import DryRunOption, SpaceName, YesOption
from memory_operator.client.server import paths
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import (
    ActivatedDocument,
    PrunedDocument,
    PrunedSpaceDocument,
    SpacesDocument,
)
from memory_operator.client.server.space_names import space_named
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import number, share, size
from memory_operator.client.views.spaces import show_spaces, show_waiting

app = typer.Typer()


@command(app, "list")
def list_spaces(session: Session) -> None:
    """List the spaces; * marks the active one, ! one in trouble, and Providers without a space."""
    found = session.answer(SpacesDocument, session.api.get(paths.SPACES))
    if found is not None:
        show_spaces(session, found.spaces)
        show_waiting(session, found.without_space)


@command(app, "activate")
def activate(
    session: Session,
    name: SpaceName,
    force: Annotated[
        bool, typer.Option("--force", help="Also a space that lacks vectors: queries then find less by meaning.")
    ] = False,
) -> None:
    """Let queries read another space, at once and without embedding anything.

    Refused with exit code 9 while less than 99 % of the chunks have a vector in it, unless --force is given.

    [bold]Examples[/]

      memory embeddings activate nomic-embed-text-768-3
      memory embeddings activate agents/memory-embeddings --force
    """
    body = {**space_named(session.api, name), "force": force}
    activated = session.answer(ActivatedDocument, session.api.post(paths.ACTIVATE, body))
    if activated is None:
        return
    space = activated.space
    session.screen.line(f"{space.embedding_version} is active")
    if space.coverage < 1:
        session.screen.remark(f"it covers {share(space.coverage)} of the chunks", "yellow")


@command(app, "deactivate")
def deactivate(session: Session) -> None:
    """Turn semantic search off: no space is active, and queries answer from full-text.

    Nothing is lost: `memory embeddings activate NAME` turns it on again at once.
    """
    session.report(session.api.post(paths.DEACTIVATE, {}), "semantic search is off; the vectors are kept")


@command(app, "prune")
def prune(session: Session, dry_run: DryRunOption = False, yes: YesOption = False) -> None:
    """Remove the spaces that no Provider asks for any more, with their vectors.

    These are replaced ones (retired) and those whose Provider is deleted (orphaned); never the active one. It asks
    first; where nobody can be asked it needs --yes. The memories themselves are never touched.
    """
    document = session.api.post(paths.PRUNE, {"dry_run": True})
    spaces = read(PrunedDocument, document).spaces
    if not dry_run and spaces:
        if not yes:
            session.ask_first(
                f"Remove {len(spaces)} {'space' if len(spaces) == 1 else 'spaces'} for good?",
                [_described(space) for space in spaces],
                risk="vectors that are pruned are gone",
                hint="see them with --dry-run, then repeat with --yes",
                declined="nothing was removed",
            )
        document = session.api.post(paths.PRUNE, {"dry_run": False})
    pruned = session.answer(PrunedDocument, document)
    if pruned is None:
        return
    if not pruned.spaces:
        session.screen.line("nothing to prune")
    for space in pruned.spaces:
        session.screen.line(f"{'would remove' if dry_run else 'removed'} {_described(space)}")


def _described(space: PrunedSpaceDocument) -> str:
    return (
        f"{space.embedding_version} of {space.provider} ({space.state}): {number(space.vectors)} vectors, "
        f"{size(space.size_bytes)}"
    )
