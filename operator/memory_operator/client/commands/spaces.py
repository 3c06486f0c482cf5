"""`memory embeddings list`, `activate`, `deactivate`, `create-enabled`, `prune`: spaces, and which one is read."""

from __future__ import annotations

from typing import Annotated

import typer

from memory_operator.client.options import AnyProjectOption, DryRunOption, SpaceName, YesOption
from memory_operator.client.server import paths
from memory_operator.client.server.pruned import PrunedDocument, PrunedSpaceDocument
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import (
    ActivatedDocument,
    CreateEnabledDocument,
    SpacesDocument,
)
from memory_operator.client.server.space_names import space_named, versions_named
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import moment, number, share, size
from memory_operator.client.views.spaces import show_listed, show_waiting

app = typer.Typer()


@command(app, "list")
def list_spaces(session: Session, project: AnyProjectOption = None) -> None:
    """List the spaces; * marks the active one, ! one in trouble, and Providers that are not applied.

    With --project also how many of its memories and chunks have a vector in each.
    """
    found = session.answer(SpacesDocument, session.api.get(paths.SPACES, project=project))
    if found is not None:
        show_listed(session, found)
        show_waiting(session, found)


@command(app, "activate")
def activate(
    session: Session,
    name: SpaceName,
    force: Annotated[
        bool, typer.Option("--force", help="Also a space that lacks vectors: queries then find less by meaning.")
    ] = False,
) -> None:
    """Let queries read another space, at once and without embedding anything.

    Refused with exit code 9 while less than 99 % of the chunks have a vector in it, unless --force is given. One that
    an edit replaced answers again where it lacks nothing, as it does while spec.embedding.keepFor lasts.

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


@command(app, "create-enabled")
def create_enabled(
    session: Session,
    name: SpaceName,
    enabled: Annotated[bool, typer.Option("--on/--off", help="Whether new memories are embedded for it.")] = True,
) -> None:
    """Let new memories be embedded for a space, or not; reembed still fills it.

    It holds until the Provider's spec.embedding.createEnabled says otherwise. Of a Provider it is about each of its
    spaces in use.

    [bold]Examples[/]

      memory embeddings create-enabled agents/second --off
    """
    answers = [
        session.api.post(paths.CREATE_ENABLED, {"embedding_version": version, "enabled": enabled})
        for version in versions_named(session.api, name)
    ]
    if session.screen.as_json:
        session.screen.document(answers[0] if len(answers) == 1 else answers)
        return
    for answer in (read(CreateEnabledDocument, each) for each in answers):
        session.screen.line(f"{answer.embedding_version}: embedding of new memories is {answer.status}")


@command(app, "prune")
def prune(
    session: Session,
    project: AnyProjectOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Remove the spaces that no Provider asks for any more, with their vectors.

    These are replaced ones (retired) and those whose Provider is deleted (orphaned); never the active one. It asks
    first; where nobody can be asked it needs --yes. The memories themselves are never touched. A space holds the
    vectors of all projects and goes as a whole: --project changes nothing about that.
    """
    if project is not None:
        session.screen.remark(f"spaces hold the vectors of all projects, not of {project} alone, and go as a whole")
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
    back = f"; until {moment(space.kept_until)} activate leads back to it" if space.kept_until else ""
    return (
        f"{space.embedding_version} of {space.provider} ({space.state}): {number(space.vectors)} vectors, "
        f"{size(space.size_bytes)}{back}"
    )
