"""`memory embeddings consent`: see what is held, and allow one change of dimension."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from memory_operator.client.errors import CommandError, MisuseError
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.schemas import ConsentsDocument, EffectDocument, HeldDocument, RecordedDocument, read
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.console import moment, number

PATH = "/admin/embedding-dimension-change"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = typer.Typer()


def seconds_of(text: str) -> int:
    """A span of time such as 90s, 15m, 1h30m or 7d; a bare number is in seconds. Raises MisuseError."""
    if text.isdecimal():
        return int(text)
    if not re.fullmatch(r"(\d+[smhd])+", text):
        raise MisuseError(f"{text!r} is not a span of time", "such as 90s, 15m, 1h30m or 7d")
    return sum(int(amount) * _SECONDS[unit] for amount, unit in re.findall(r"(\d+)([smhd])", text))


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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Allow one change of the embedding dimension, which discards the stored vectors of one Provider.

    On a terminal it shows what will be discarded and asks first; elsewhere naming DIM is the consent. The change is
    applied within a second, and the consent is used up by it. The memories themselves are never touched.

    [bold]Examples[/]

      memory embeddings consent
      memory embeddings consent 768 --ttl 1h
    """
    if withdraw is not None:
        if dimension is not None:
            raise MisuseError("DIM and --withdraw exclude each other")
        _withdraw(session, withdraw)
    elif dimension is None:
        _show(session)
    else:
        body: dict[str, Any] = {"target_dim": dimension}
        if provider is not None:
            body["provider"] = provider
        if ttl is not None:
            body["ttl_seconds"] = seconds_of(ttl)
        _record(session, body, ask=session.screen.may_ask and not yes)


def _record(session: Session, body: dict[str, Any], *, ask: bool) -> None:
    screen = session.screen
    with session.api() as api:
        if ask:
            _ask(session, api, body)
        document = api.post(PATH, body)
    if screen.as_json:
        screen.document(document)
        return
    recorded = read(RecordedDocument, document)
    until = f", valid until {moment(recorded.expires_at)}" if recorded.expires_at else ""
    screen.line(f"consent recorded: {recorded.target_dim} dimensions (id {recorded.id}{until})")
    if recorded.effect is not None:
        screen.line(_sentence(recorded.effect))
        screen.remark("hint: watch it with memory embeddings status --watch")
    elif not recorded.matches_held_change:
        screen.remark("no change to this dimension is held now: the consent waits for one", "yellow")


def _ask(session: Session, api: ApiClient, body: dict[str, Any]) -> None:
    dimension, provider = body["target_dim"], body.get("provider")
    found = read(ConsentsDocument, api.get(PATH)).held
    held = [one for one in found if one.to_dim == dimension and provider in (None, one.provider)]
    for one in held:
        session.screen.ask_about(f"{one.provider}: {_sentence(one)}")
    if not held:
        session.screen.ask_about(f"No change to {dimension} dimensions is held now.", "yellow")
    if not session.screen.confirm(f"Record consent for {dimension} dimensions?"):
        raise CommandError("no consent was recorded")


def _sentence(effect: EffectDocument) -> str:
    """What a change costs, in words."""
    cost = f" ({effect.estimated_cost} {effect.currency})" if effect.estimated_cost is not None else ""
    tokens = f", about {number(effect.estimated_tokens)} tokens{cost}" if effect.estimated_tokens else ""
    return (
        f"{effect.from_dim} → {effect.to_dim} dimensions: {number(effect.vectors_discarded)} vectors are discarded, "
        f"{number(effect.chunks_to_embed)} chunks are embedded again{tokens}"
    )


def _withdraw(session: Session, marker_id: int) -> None:
    with session.api() as api:
        api.delete(f"{PATH}/{marker_id}")
    if session.screen.as_json:
        session.screen.document({"id": marker_id, "state": "withdrawn"})
    else:
        session.screen.line(f"consent {marker_id} is withdrawn")


def _show(session: Session) -> None:
    screen = session.screen
    with session.api() as api:
        document = api.get(PATH)
    if screen.as_json:
        screen.document(document)
        return
    consents = read(ConsentsDocument, document)
    if not consents.held:
        screen.line("nothing is held")
    for held in consents.held:
        show_held(session, held)
    if consents.markers:
        screen.line()
        screen.table(
            ("ID", "DIMS", "PROVIDER", "STATE", "BY", "RECORDED", "EXPIRES"),
            [
                (
                    str(marker.id),
                    str(marker.target_dim),
                    marker.provider or "any",
                    marker.state,
                    marker.created_by or "–",
                    moment(marker.created_at),
                    moment(marker.expires_at),
                )
                for marker in consents.markers
            ],
            right=("ID", "DIMS"),
            whole=("STATE", "RECORDED", "EXPIRES"),
        )


def show_held(session: Session, held: HeldDocument) -> None:
    """A held change and how to allow it."""
    since = f", since {moment(held.since)}" if held.since else ""
    session.screen.line(f"held: {held.provider}{since}", "yellow")
    session.screen.line(f"  {_sentence(held)}")
    session.screen.line(f"  allow it with: memory embeddings consent {held.to_dim} --provider {held.provider}")
