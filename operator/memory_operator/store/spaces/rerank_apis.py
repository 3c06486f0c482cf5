"""The rerank APIs of Providers: how each is called, and how calls to it end."""

from __future__ import annotations

from dataclasses import dataclass

from memory_operator.contract.resource import ProviderRef
from memory_operator.plan.space import RerankConfig
from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces.registry import CHANNEL

ANSWERED = "Answered"
"""The outcome of calls that are answered; the others are kinds of errors."""


@dataclass(frozen=True, slots=True)
class RerankApi:
    """A Provider's rerank API, and how the last call ended that told something new of it."""

    config: RerankConfig
    generation: int
    """Of the Provider."""
    outcome: str | None
    """ANSWERED, or the kind of the error that calls end with; None where that is not known since the last edit."""


_FIND = """
select rerank, generation, rerank_outcome from memory_providers
where namespace = $1 and name = $2 and absent_since is null and rerank is not null
"""


async def find(conn: Conn, ref: ProviderRef) -> RerankApi | None:
    """How a Provider's rerank API is called; None where it has none, or is not there."""
    row = await conn.fetchrow(_FIND, *ref)
    if row is None:
        return None
    return RerankApi(RerankConfig.model_validate(row["rerank"]), row["generation"], row["rerank_outcome"])


# Nobody waits for a row that is locked: the next call tells it again.
_NOTE = """
with there as (select namespace, name from memory_providers where namespace = $1 and name = $2 and generation = $3
  and rerank_outcome is distinct from $4 for no key update skip locked),
changed as (update memory_providers p set rerank_outcome = $4, rerank_message = $5 from there
  where p.namespace = there.namespace and p.name = there.name returning 1)
select pg_notify($6, '') from changed
"""


async def note(conn: Conn, ref: ProviderRef, generation: int, outcome: str, message: str | None) -> None:
    """Keep how a call to a Provider's rerank API ended, unless it was edited since; the operator is told."""
    await conn.execute(_NOTE, *ref, generation, outcome, message, CHANNEL)
