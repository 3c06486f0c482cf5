"""What happened: consents, activations, reshapes, purges, with who, when and from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memory_operator.store.pool import Conn


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked for something, and from where."""

    name: str
    origin: str
    """Client address, or the name of the process that acted by itself."""


async def record(conn: Conn, actor: Actor, kind: str, subject: str, **detail: Any) -> None:
    """Write one line of history, in the transaction that does the deed."""
    await conn.execute(
        "insert into memory_activity (actor, origin, kind, subject, detail) values ($1, $2, $3, $4, $5)",
        actor.name,
        actor.origin,
        kind,
        subject,
        detail,
    )
