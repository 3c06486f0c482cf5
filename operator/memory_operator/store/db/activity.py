"""What happened: consents, activations, reshapes, purges, with who, when and from where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memory_operator.store.db.pool import Conn


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked for something, and from where."""

    name: str
    origin: str
    """Client address, or the name of the process that acted by itself."""


_RECORD = """insert into memory_activity (actor, origin, kind, subject, detail) values ($1, $2, $3, $4, $5)"""


async def record(conn: Conn, actor: Actor, kind: str, subject: str, **detail: Any) -> None:
    """Write one line of history, in the transaction that does the deed."""
    await conn.execute(_RECORD, actor.name, actor.origin, kind, subject, detail)


@dataclass(frozen=True, slots=True)
class ActivityEntry:
    """One line of history."""

    id: int
    at: datetime
    actor: str
    origin: str
    kind: str
    subject: str
    detail: dict[str, Any]


_PAGE = """
select id, at, actor, origin, kind, subject, detail from memory_activity
where $1::bigint is null or id < $1 order by id desc limit $2
"""


async def page(conn: Conn, before: int | None, limit: int) -> list[ActivityEntry]:
    """The newest entries, or those before one, newest first."""
    rows = await conn.fetch(_PAGE, before, limit)
    return [ActivityEntry(**dict(row)) for row in rows]
