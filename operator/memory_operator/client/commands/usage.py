"""`memory usage`: what was used, and what it cost."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from memory_operator.client.errors import MisuseError
from memory_operator.client.server import paths
from memory_operator.client.server.schemas import UsageDocument, UsedDocument
from memory_operator.client.session import Session, command
from memory_operator.client.terminal.format import number, price
from memory_operator.client.terminal.table import Columns

_FIGURES = ("CALLS", "UNANSWERED", "TEXTS", "TOKENS", "UNCOUNTED", "COST")

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
    document = session.api.get(paths.USAGE, **{"from": since, "to": until, "group_by": by.value})
    found = session.answer(UsageDocument, document)
    if found is None:
        return
    columns = Columns((by.value.upper(), *_FIGURES), figures=_FIGURES, fold=("UNANSWERED", "TEXTS", "UNCOUNTED"))
    rows = [_row(each.group or "–", each) for each in found.groups]
    session.screen.table(columns, [*rows, _row("total", found.total)])
    whose = f"tenant {found.tenant}" if found.tenant else "all tenants"
    session.screen.remark(f"{whose}, {found.since} to {found.until}")


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
