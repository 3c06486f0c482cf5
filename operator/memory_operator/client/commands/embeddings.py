"""`memory embeddings`: the spaces of vectors."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memory_operator.client.commands import consent, fill_status, jobs, rebuild
from memory_operator.client.commands.overview import show_spaces, show_waiting
from memory_operator.client.completion import complete_space
from memory_operator.client.errors import CommandError, MisuseError, RefusedError
from memory_operator.client.exit_codes import LEGEND
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.schemas import (
    ActivatedDocument,
    PrunedDocument,
    PrunedSpaceDocument,
    SpacesDocument,
    read,
)
from memory_operator.client.server.space_names import SPACES
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.console import number, share, size

PRUNE = "/v1/prune-embeddings"

app = typer.Typer(no_args_is_help=True, epilog=LEGEND)

SpaceName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A space's name, or its Provider as namespace/name or name.",
        autocompletion=complete_space,
    ),
]


@command(app, "list")
def list_spaces(session: Session) -> None:
    """List the spaces; * marks the active one, ! one in trouble, and Providers without a space."""
    with session.api() as api:
        document = api.get(SPACES)
    if session.screen.as_json:
        session.screen.document(document)
    else:
        found = read(SpacesDocument, document)
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
    with session.api() as api:
        document = _activate(api, name, force=force)
    if session.screen.as_json:
        session.screen.document(document)
        return
    space = read(ActivatedDocument, document).space
    session.screen.line(f"{space.embedding_version} is active")
    if space.coverage < 1:
        session.screen.remark(f"it covers {share(space.coverage)} of the chunks", "yellow")


def _activate(api: ApiClient, name: str, *, force: bool) -> Any:
    path = "/v1/embeddings/activate"
    if "/" in name:
        return api.post(path, {"provider": name, "force": force})
    try:
        return api.post(path, {"embedding_version": name, "force": force})
    except RefusedError as refusal:
        if refusal.status != 404:
            raise
        spaces = read(SpacesDocument, api.get(SPACES)).spaces
        providers = sorted({one.provider for one in spaces if one.provider.partition("/")[2] == name})
        if len(providers) == 1:
            return api.post(path, {"provider": providers[0], "force": force})
        known = ", ".join(providers or [one.embedding_version for one in spaces]) or "none"
        what = "Providers of that name" if providers else "spaces"
        raise CommandError(f"there is no space {name!r}", f"{what}: {known}") from refusal


@command(app, "deactivate")
def deactivate(session: Session) -> None:
    """Turn semantic search off: no space is active, and queries answer from full-text.

    Nothing is lost: `memory embeddings activate NAME` turns it on again at once.
    """
    with session.api() as api:
        document = api.post("/v1/embeddings/deactivate", {})
    if session.screen.as_json:
        session.screen.document(document)
    else:
        session.screen.line("semantic search is off; the vectors are kept")


@command(app, "prune")
def prune(
    session: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the spaces that no Provider asks for any more, with their vectors.

    These are replaced ones (retired) and those whose Provider is deleted (orphaned); never the active one. It asks
    first; where nobody can be asked it needs --yes. The memories themselves are never touched.
    """
    screen = session.screen
    with session.api() as api:
        document = api.post(PRUNE, {"dry_run": True})
        spaces = read(PrunedDocument, document).spaces
        if not dry_run and spaces:
            if not yes:
                _ask_before_pruning(session, spaces)
            document = api.post(PRUNE, {"dry_run": False})
            spaces = read(PrunedDocument, document).spaces
    if screen.as_json:
        screen.document(document)
        return
    if not spaces:
        screen.line("nothing to prune")
    for space in spaces:
        screen.line(f"{'would remove' if dry_run else 'removed'} {_described(space)}")


def _ask_before_pruning(session: Session, spaces: list[PrunedSpaceDocument]) -> None:
    if not session.screen.may_ask:
        raise MisuseError("vectors that are pruned are gone", "see them with --dry-run, then repeat with --yes")
    for space in spaces:
        session.screen.ask_about(_described(space))
    if not session.screen.confirm(f"Remove {len(spaces)} {'space' if len(spaces) == 1 else 'spaces'} for good?"):
        raise CommandError("nothing was removed")


def _described(space: PrunedSpaceDocument) -> str:
    return (
        f"{space.embedding_version} of {space.provider} ({space.state}): {number(space.vectors)} vectors, "
        f"{size(space.size_bytes)}"
    )


app.add_typer(consent.app)
app.add_typer(fill_status.app)
app.add_typer(rebuild.app)
app.add_typer(jobs.app)
