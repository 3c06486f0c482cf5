"""`memory embeddings consent`: see what is held, and allow one change of dimension."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.options import YesOption, given, seconds_of
from memory_operator.client.server import paths
from memory_operator.client.server.reading import read
from memory_operator.client.server.schemas import ConsentsDocument, MarkerDocument, RecordedDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import moment
from memory_operator.client.terminal.table import Columns
from memory_operator.client.views.spaces import consent_command, effect_sentence, show_held

_MARKERS = Columns(
    ("ID", "DIMS", "PROVIDER", "STATE", "BY", "RECORDED", "EXPIRES"),
    figures=("ID", "DIMS"),
    text=("BY",),
    fold=("RECORDED", "BY", "PROVIDER"),
)

app = typer.Typer()


@command(app, "consent")
def consent(
    session: Session,
    dimension: Annotated[
        int | None, typer.Argument(metavar="DIM", help="The target dimension; without it, show what is held.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAMESPACE/NAME", help="Needed when several Providers wait for DIM.")
    ] = None,
    ttl: Annotated[str | None, typer.Option(help="How long the consent is valid, such as 1h; default: 24h.")] = None,
    withdraw: Annotated[int | None, typer.Option(metavar="ID", help="Withdraw a consent that is not used.")] = None,
    yes: YesOption = False,
) -> None:
    """Allow one change of the embedding dimension, which discards the stored vectors of one Provider.

    It shows what will be discarded and asks first; where nobody can be asked it needs --yes, and without it exits with
    2, or with 7 where a change to another dimension is held. The change is applied within a second, and the consent is
    used up by it. The memories themselves are never touched.

    [bold]Examples[/]

      memory embeddings consent
      memory embeddings consent 768 --ttl 1h
      memory embeddings consent 768 --provider agents/memory-embeddings --yes
    """
    if withdraw is not None:
        if dimension is not None:
            raise MisuseError("DIM and --withdraw exclude each other")
        session.api.delete(paths.consent(withdraw))
        session.report({"id": withdraw, "state": "withdrawn"}, f"consent {withdraw} is withdrawn")
    elif dimension is None:
        _show(session)
    else:
        seconds = None if ttl is None else seconds_of(ttl)
        _record(session, given(target_dim=dimension, provider=provider, ttl_seconds=seconds), yes=yes)


def _record(session: Session, body: dict[str, Any], *, yes: bool) -> None:
    screen = session.screen
    if not yes:
        _confirm(session, body["target_dim"], body.get("provider"))
    recorded = session.answer(RecordedDocument, session.api.post(paths.CONSENT, body))
    if recorded is None:
        return
    until = f", valid until {moment(recorded.expires_at)}" if recorded.expires_at else ""
    screen.line(f"consent recorded: {recorded.target_dim} dimensions (id {recorded.id}{until})")
    if recorded.effect is not None:
        screen.line(effect_sentence(recorded.effect))
        screen.remark("hint: watch it with memory embeddings status --watch")
    elif not recorded.matches_held_change:
        whose = f" of {recorded.provider}" if recorded.provider else ""
        screen.remark(f"no change{whose} to this dimension is held now: the consent waits for one", "yellow")
        show_held(session, read(ConsentsDocument, session.api.get(paths.CONSENT)).held)


def _confirm(session: Session, dimension: int, provider: str | None) -> None:
    """Say what a consent allows, and go on only for a yes.

    Raises CommandError where the change that is held is another one, MisuseError where nobody can be asked.
    """
    held = [
        one for one in read(ConsentsDocument, session.api.get(paths.CONSENT)).held if provider in (None, one.provider)
    ]
    meant = [one for one in held if one.to_dim == dimension]
    if held and not meant and not session.screen.may_ask:
        raise CommandError(
            f"no change to {dimension} dimensions is held, but "
            + ", ".join(f"{one.provider} to {one.to_dim}" for one in held),
            f"{consent_command(held[0])} --yes allows that; to record {dimension} in advance, repeat with --yes",
            ExitCode.CONSENT_REQUIRED,
        )
    about = [f"{one.provider}: {effect_sentence(one)}" for one in meant or held]
    about += [f"{one.provider} has its consent already, and waits: {one.message}" for one in meant if one.has_consent]
    about += [f"! {one.doubt}" for one in meant if one.doubt and not one.has_consent]
    if not meant:
        about.append(f"No change to {dimension} dimensions is held now: the consent would wait for one.")
    session.ask_first(
        f"Record consent for {dimension} dimensions?",
        about,
        risk="; ".join(about),
        hint="if that is wanted, repeat with --yes",
        declined="no consent was recorded",
    )


def _show(session: Session) -> None:
    consents = session.answer(ConsentsDocument, session.api.get(paths.CONSENT))
    if consents is None:
        return
    if not consents.held:
        session.screen.line("nothing is held")
    show_held(session, consents.held)
    if consents.markers:
        session.screen.line()
        session.screen.table(_MARKERS, [_row(marker) for marker in consents.markers])


def _row(marker: MarkerDocument) -> tuple[str, ...]:
    return (
        str(marker.id),
        str(marker.target_dim),
        marker.provider or "any",
        marker.state,
        marker.created_by or "–",
        moment(marker.created_at),
        moment(marker.expires_at),
    )
