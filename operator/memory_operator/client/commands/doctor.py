"""`memory doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server import paths
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import HeldDocument, OverviewDocument, SpaceDocument, SpacesDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import number, share
from memory_operator.client.views.spaces import consent_command, effect_sentence, verdict

app = typer.Typer()

Problem = tuple[str, str]
"""What is wrong, and what to do."""


@command(app, "doctor")
def doctor(session: Session) -> None:
    """Say what is wrong with semantic search and what to do about it.

    Exits with 0 when nothing is wrong, else as `memory status --check` does, or with 1.
    """
    overview = read(OverviewDocument, session.api.get(paths.STATUS))
    listed = read(SpacesDocument, session.api.get(paths.SPACES))
    problems = list(_problems(overview, listed))
    if session.screen.as_json:
        session.screen.document({"problems": [{"what": what, "do": remedy} for what, remedy in problems]})
    for what, remedy in () if session.screen.as_json else problems:
        session.screen.line(f"! {what}", "red")
        session.screen.line(f"  {remedy}")
    if not problems:
        spaces = "1 space" if len(listed.spaces) == 1 else f"{len(listed.spaces)} spaces"
        session.screen.remark(f"nothing is wrong ({number(overview.chunks)} chunks in {spaces})")
        return
    code = verdict(overview, overview.held)
    session.end(ExitCode.FAILED if code is ExitCode.DONE else code)


def _problems(overview: OverviewDocument, listed: SpacesDocument) -> Iterator[Problem]:
    for each in listed.without_space:
        yield f"{each.provider} has no space: {each.reason}: {each.message}", "correct the Provider or what it names"
    for each in listed.refused:
        yield f"what {each.provider} says now is not applied: {each.reason}: {each.message}", "correct the Provider"
    match overview.semantic_status:
        case "disabled":
            yield "semantic search is off", "turn it on: memory embeddings activate NAME"
        case "no_active_space" if listed.spaces:
            yield "no space is active, so queries find by words only", "choose one: memory embeddings activate NAME"
        case "no_active_space" if not listed.without_space:
            yield "there is no embedder", "apply a Provider with role embedding"
    for space in listed.spaces:
        yield from _of_space(space)
    for job in overview.jobs:
        if job.state == "paused":
            why = f" ({job.message})" if job.message else ""
            yield f"job {job.id} of {job.name} is paused{why}", f"let it go on: memory embeddings resume {job.id}"
    for held in overview.held:
        yield _of_held(held)


def _of_space(space: SpaceDocument) -> Iterator[Problem]:
    name = space.embedding_version
    if space.trouble:
        yield f"the embedder of {name} gives no vectors: {space.trouble}", f"look at the Provider {space.provider}"
    if space.active and space.coverage < 1 and not space.trouble:
        yield (
            f"only {share(space.coverage)} of the chunks have a vector in {name}, which queries read",
            "watch it: memory embeddings status --watch; start what does not run: memory embeddings reembed",
        )
    if space.quarantined:
        yield (
            f"{number(space.quarantined)} chunks are refused by the embedder of {name}",
            f"see why: memory embeddings quarantine --space {name}",
        )
    if space.state == "orphaned":
        yield (
            f"the Provider of {name} is deleted",
            "apply it again, or give its vectors up: memory embeddings prune",
        )


def _of_held(held: HeldDocument) -> Problem:
    what = f"{held.provider} waits for consent: {effect_sentence(held)}"
    if held.has_consent or held.doubt:
        return f"{what}; {held.message if held.has_consent else held.doubt}", "correct the Provider"
    return what, f"if that is wanted: {consent_command(held)}"
