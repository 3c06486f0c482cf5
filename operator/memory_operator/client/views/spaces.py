"""The spaces, how well queries can search them, and the changes that wait for consent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server.schemas import (
    EffectDocument,
    HeldDocument,
    OverviewDocument,
    SpaceDocument,
    SpacesDocument,
    WaitingDocument,
)
from memory_operator.client.session import Session
from memory_operator.client.terminal.format import moment, number, share
from memory_operator.client.terminal.table import Columns

ENOUGH_COVERAGE = 0.99
MOST_UNINDEXED = 5_000

_NAMES = (
    *("", "NAME", "PROVIDER", "DIMS", "STATE", "VECTORS", "COVERAGE", "QUARANTINED"),
    *("MODEL", "DISTANCE", "INDEX", "CREATE"),
)
_OF_PROJECT = ("MEMORIES", "CHUNKS")
_FIGURES = ("DIMS", "VECTORS", "COVERAGE", "QUARANTINED")
_FOLD = ("MODEL", "DISTANCE", "INDEX", "CREATE", "PROVIDER", "QUARANTINED", "VECTORS")
_SPACES = Columns(_NAMES, figures=_FIGURES, fold=_FOLD)
_SPACES_OF_PROJECT = Columns((*_NAMES, *_OF_PROJECT), figures=(*_FIGURES, *_OF_PROJECT), fold=_FOLD)


def show_spaces(session: Session, spaces: Sequence[SpaceDocument]) -> None:
    """The table of spaces: * active, ! in trouble."""
    if not spaces:
        session.screen.remark("there is no space; it appears when a Provider with role embedding is applied")
        return
    session.screen.table(_SPACES, [_row(space) for space in spaces])
    for space in spaces:
        _show_remarks(session, space)


def show_listed(session: Session, found: SpacesDocument) -> None:
    """The table of spaces and of Providers without one: * active, ! in trouble; with what a project has in each."""
    refused = {each.provider for each in found.refused}
    rows = [_row(space, refused=space.provider in refused and space.in_use) for space in found.spaces]
    rows += [_row_of_waiting(each) for each in found.without_space]
    if not rows:
        show_spaces(session, ())
        return
    if found.project is None:
        session.screen.table(_SPACES, rows)
    else:
        project, counted = found.project, {each.embedding_version: each for each in found.project.spaces}
        parts = [counted.get(row[_NAMES.index("NAME")]) for row in rows]
        more = [(number(part.memories), number(part.chunks)) if part else ("–", "–") for part in parts]
        session.screen.table(_SPACES_OF_PROJECT, [(*row, *two) for row, two in zip(rows, more, strict=True)])
        session.screen.line(f"{project.project}: {number(project.memories)} memories, {number(project.chunks)} chunks")
    for space in found.spaces:
        _show_remarks(session, space)


def _show_remarks(session: Session, space: SpaceDocument) -> None:
    if space.trouble:
        session.screen.remark(f"! {space.embedding_version}: {space.trouble}", "red")
    if space.unindexed:
        session.screen.remark(_unindexed(space), "red" if space.unindexed > MOST_UNINDEXED else "")
    if space.kept_until:
        price = f", at USD {space.cost_per_1k} per 1,000 tokens" if space.cost_per_1k else ""
        cost = f" (USD {space.kept_cost})" if space.kept_cost else ""
        took = f"; that took {number(space.kept_tokens)} tokens{cost} so far" if space.kept_tokens else ""
        session.screen.remark(
            f"{space.embedding_version} gets new memories until {moment(space.kept_until)}{price}, and activate leads"
            f" back at once{took}"
        )


def _row_of_waiting(waiting: WaitingDocument) -> tuple[str, ...]:
    known = {
        "": "" if waiting.begins else "!",
        "NAME": waiting.provider.rpartition("/")[2],
        "PROVIDER": waiting.provider,
        "STATE": waiting.phase,
    }
    return tuple(known.get(name, "–") for name in _NAMES)


def _row(space: SpaceDocument, *, refused: bool = False) -> tuple[str, ...]:
    return (
        f"{'*' if space.active else ''}{'!' if space.trouble or refused else ''}",
        space.embedding_version,
        space.provider,
        str(space.dimensions),
        space.state,
        number(space.vectors),
        share(space.coverage),
        number(space.quarantined),
        space.model or "–",
        space.distance or "–",
        space.index or "–",
        "yes" if space.create_enabled else "no",
    )


def _unindexed(space: SpaceDocument) -> str:
    if space.unindexed <= MOST_UNINDEXED:
        return f"{space.embedding_version}: {number(space.unindexed)} vectors are not in its index yet"
    more = f"! {space.embedding_version}: more than {number(MOST_UNINDEXED)} vectors are not in its index"
    return f"{more}, which slows queries down; is a worker running?"


def show_waiting(session: Session, found: SpacesDocument) -> None:
    """What is not as it is declared, and why: the active space, Providers without one or not applied, rehearsals."""
    if found.selection_waits:
        session.screen.remark(found.selection_waits, "yellow")
    for each in found.without_space:
        mark, colour = ("", "") if each.begins else ("! ", "red")
        session.screen.remark(f"{mark}{each.provider} has no space: {each.reason}: {each.message}", colour)
    for each in found.refused:
        session.screen.remark(f"! {each.provider} is not applied as it is now: {each.reason}: {each.message}", "red")
    for rehearsal in found.temporary:
        progress = f"{number(rehearsal.embedded)} of {number(rehearsal.chunks)} chunks"
        session.screen.remark(
            f"temporary: {rehearsal.name} tries {rehearsal.model} of {rehearsal.provider} on {progress}"
        )


def semantic_sentence(overview: OverviewDocument) -> str:
    """How well queries can search by meaning."""
    active = overview.active
    match overview.semantic_status:
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


def verdict(overview: OverviewDocument, held: Sequence[HeldDocument]) -> ExitCode:
    """What `--check` exits with: the first of these that a person has to see to."""
    if held:
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


def effect_sentence(effect: EffectDocument) -> str:
    """What a change costs, in words."""
    cost = f" ({effect.estimated_cost} {effect.currency})" if effect.estimated_cost is not None else ""
    tokens = f", about {number(effect.estimated_tokens)} tokens{cost}" if effect.estimated_tokens else ""
    return (
        f"{effect.from_dim} → {effect.to_dim} dimensions: {number(effect.vectors_discarded)} vectors are discarded, "
        f"{number(effect.chunks_to_embed)} chunks are embedded again{tokens}"
    )


def show_held(session: Session, held: Iterable[HeldDocument]) -> None:
    """Held changes and how to allow them."""
    for change in held:
        since = f", since {moment(change.since)}" if change.since else ""
        session.screen.line(f"held: {change.provider}{since}", "yellow")
        session.screen.line(f"  {effect_sentence(change)}")
        if change.has_consent:
            session.screen.line(f"  it has its consent, and waits: {change.message}", "red")
        elif change.doubt:
            session.screen.line(f"  ! {change.doubt}", "red")
        else:
            session.screen.line(f"  allow it with: {consent_command(change)}")


def consent_command(change: HeldDocument) -> str:
    """The command that allows a held change."""
    return f"memory embeddings consent {change.to_dim} --provider {change.provider}"
