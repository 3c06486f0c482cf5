"""The annotation by which a Provider asks to be activated: what was last seen of it, and what became of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memory_operator.contract.resource import ProviderRef
from memory_operator.store.db.pool import Conn


@dataclass(frozen=True, slots=True)
class ActivationRequest:
    """One value of the annotation."""

    uid: str
    """Of the Provider: another one of the same name has asked for nothing yet."""
    value: str
    """Empty where there is no annotation."""
    result: Literal["seen", "begun", "done", "refused"] = "seen"
    """Seen: it was there before anything could be asked for."""
    message: str = ""
    by: str = ""


def of_stored(stored: Mapping[str, Any] | None) -> ActivationRequest | None:
    """What a row holds."""
    if stored is None:
        return None
    return ActivationRequest(**{name: stored[name] for name in ActivationRequest.__dataclass_fields__})


_LOCK = """
select activation_request from memory_providers where namespace = $1 and name = $2 and uid = $3 for update
"""

_NOTE = """update memory_providers set activation_request = $4 where namespace = $1 and name = $2 and uid = $3"""


async def begin(conn: Conn, ref: ProviderRef, uid: str, value: str) -> bool:
    """Note what is seen; whether it is to be acted on now: it is another value than the last one, or was only begun.

    In a transaction. The first value that is seen of a Provider is no change.
    """
    row = await conn.fetchrow(_LOCK, *ref, uid)
    if row is None:
        return False
    last = of_stored(row["activation_request"])
    if last is None or last.uid != uid:
        await note(conn, ref, ActivationRequest(uid, value))
        return False
    if last.value == value:
        return last.result == "begun"
    await note(conn, ref, ActivationRequest(uid, value, "begun" if value else "seen"))
    return bool(value)


async def note(conn: Conn, ref: ProviderRef, request: ActivationRequest) -> None:
    """Keep what became of a value."""
    await conn.execute(_NOTE, *ref, request.uid, asdict(request))
