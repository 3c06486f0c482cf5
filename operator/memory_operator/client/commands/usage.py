"""`memory usage`: what was used, and what it cost."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from memory_operator.client.errors import MisuseError
from memory_operator.client.server.job_schemas import UsageDocument, UsedDocument
from memory_operator.client.server.schemas import read
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.console import number, price

app = typer.Typer()


class By(StrEnum):
    """What usage is added up by."""

    DAY = "day"
    PURPOSE = "purpose"
    MODEL = "model"
    PROVIDER = "provider"
    TENANT = "tenant"


@command(app, "usage")
def usage(
    session: Session,
    by: Annotated[By, typer.Option("--by", help="What is added up.")] = By.DAY,
    since: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day, in UTC; 30 days if left out.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day, in UTC; today if left out.")
    ] = None,
) -> None:
    """Show calls to embedding vendors, their tokens and what they cost.

    It is about your own tenant; for those who may begin jobs everywhere it is about everybody. UNCOUNTED are the
    tokens, estimated, of calls that may be paid although no count of them came.

    [bold]Examples[/]

      memory usage
      memory usage --by provider --from 2026-01-01
    """
    for day in (since, until):
        if day is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
            raise MisuseError(f"{day!r} is not a day", "such as 2026-01-31")
    with session.api() as api:
        document = api.get("/v1/usage", **{"from": since, "to": until, "group_by": by.value})
    screen = session.screen
    if screen.as_json:
        screen.document(document)
        return
    found = read(UsageDocument, document)
    figures = ("CALLS", "UNANSWERED", "TEXTS", "TOKENS", "UNCOUNTED", "COST")
    rows = [_row(each.group or "–", each) for each in found.groups]
    screen.table((by.value.upper(), *figures), [*rows, _row("total", found.total)], right=figures, whole=("DAY",))
    whose = f"tenant {found.tenant}" if found.tenant else "all tenants"
    screen.remark(f"{whose}, {found.since} to {found.until}")


def _row(name: str, used: UsedDocument) -> tuple[str, ...]:
    return (
        name,
        number(used.calls),
        number(used.unanswered_calls),
        number(used.inputs),
        number(used.tokens),
        number(used.uncounted_tokens),
        price(used.cost, used.currency),
    )
