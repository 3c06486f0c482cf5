"""Spaces of edits that are measured before queries switch to them, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from memory_operator.plan.gate import GateConfig
from memory_operator.store.db.pool import Conn


@dataclass(frozen=True, slots=True)
class DueGate:
    """A space that is full, and waits for being measured."""

    space_id: int
    version: str
    against_id: int
    against: str
    """Name of the space that it is compared with: the one that its Provider has."""
    gate: GateConfig


@dataclass(frozen=True, slots=True)
class GateResult:
    """What came out."""

    space_id: int
    measured: bool
    """False where it could not be compared so far."""
    passed: bool
    message: str
    decided_at: datetime


_DUE = """
select s.id as space_id, s.embedding_version as version, a.id as against_id, a.embedding_version as against, p.gate
from memory_providers p join memory_embedding_spaces s on s.id = p.beside_space_id and s.state = 'ready'
join memory_embedding_spaces a on a.id = p.applied_space_id
where p.absent_since is null and p.activation = 'Measured' and p.gate is not null
and not exists (select from memory_gate_results r
  where r.space_id = s.id and r.against_id = a.id and r.gate = p.gate and r.measured)
order by s.id
"""


async def all_due(conn: Conn) -> list[DueGate]:
    """Those that were not measured yet, as they are asked to be now."""
    rows = await conn.fetch(_DUE)
    return [DueGate(**{**dict(row), "gate": GateConfig.model_validate(row["gate"])}) for row in rows]


_RECORD = """
insert into memory_gate_results as r (space_id, against_id, gate, measured, passed, message)
select s.id, p.applied_space_id, p.gate, $6, $4, $5 from memory_providers p
join memory_embedding_spaces s on s.id = p.beside_space_id
where s.id = $1 and p.applied_space_id = $2 and p.gate = $3 and p.activation = 'Measured' and p.absent_since is null
on conflict (space_id) do update set against_id = excluded.against_id, gate = excluded.gate,
measured = excluded.measured, passed = excluded.passed, message = excluded.message, decided_at = now() returning true
"""


async def record(conn: Conn, due: DueGate, message: str, *, passed: bool, measured: bool = True) -> bool:
    """Keep what came out; False where something else is asked for by now. The registry is locked exclusively."""
    gate = due.gate.model_dump()
    return bool(await conn.fetchval(_RECORD, due.space_id, due.against_id, gate, passed, message, measured))


_RESULTS = """
select r.space_id, r.measured, r.passed, r.message, r.decided_at from memory_gate_results r
join memory_providers p on p.beside_space_id = r.space_id and p.applied_space_id = r.against_id and p.gate = r.gate
where p.activation = 'Measured' and ($1::bigint[] is null or r.space_id = any($1))
"""


async def results(conn: Conn, space_ids: list[int] | None = None) -> dict[int, GateResult]:
    """What came out of those that are beside their Provider's space now, as they are asked to be now, by space."""
    return {row["space_id"]: GateResult(**dict(row)) for row in await conn.fetch(_RESULTS, space_ids)}


async def result(conn: Conn, space_id: int) -> GateResult | None:
    """What came out of one of them; None where nothing did."""
    return (await results(conn, [space_id])).get(space_id)


_IS_MEASURED = """
select exists (select from memory_providers where beside_space_id = $1 and activation = 'Measured' and gate is not null)
"""


async def is_measured(conn: Conn, space_id: int) -> bool:
    """Whether queries switch to a space only once it was measured."""
    return bool(await conn.fetchval(_IS_MEASURED, space_id))
