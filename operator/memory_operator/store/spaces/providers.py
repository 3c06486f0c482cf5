"""Providers as the store knows them: what they say now, which space they have, what is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memory_operator.contract.resource import ProviderRef
from memory_operator.plan.cost import Effect
from memory_operator.plan.gate import GateConfig
from memory_operator.plan.space import RerankConfig
from memory_operator.store.db.pool import Conn, Row


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One row of memory_providers."""

    ref: ProviderRef
    uid: str
    generation: int
    created_at: datetime
    absent_since: datetime | None
    applied_space_id: int | None
    beside_space_id: int | None
    activation: str
    status: dict[str, Any] | None
    wanted_identity: str | None
    rerank_outcome: str | None = None
    """How calls to its rerank API end, see `rerank_apis`."""
    rerank_message: str | None = None
    activation_request: Mapping[str, Any] | None = None
    """What became of its annotation, see `activation_requests`."""


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change that waits for consent."""

    ref: ProviderRef
    uid: str
    generation: int
    effect: Effect
    marker: str
    message: str
    since: datetime
    doubt: str | None = None
    """Why no consent could help, where that is known before a call: the model makes no vectors of this length."""


@dataclass(frozen=True, slots=True)
class DeclaredSpec:
    """What a Provider's spec says, as far as others than its own reconcile need to know."""

    activation: str
    column_type: str
    reshape_to: int | None
    """The dimension that an in-place change would lead to, where the spec alone tells it."""
    identity: str | None
    """Identity of the space that is asked for, where the spec alone tells it."""
    rerank: RerankConfig | None = None
    """How its rerank API is called, where it has one."""
    most_dimensions: int | None = None
    """How long vectors may be for the column and the index that are asked for."""
    keep_seconds: float | None = None
    """How long a space that an edit replaces is kept; None: as long as is usual."""
    gate: GateConfig | None = None
    """How good the space of an edit has to be; None where nobody measures it."""


_COLUMNS = """namespace, name, uid, generation, created_at, absent_since, applied_space_id, beside_space_id,
  activation, status, wanted_identity, rerank_outcome, rerank_message, activation_request"""


def _row(row: Row) -> ProviderRow:
    values = dict(row)
    return ProviderRow(ref=ProviderRef(values.pop("namespace"), values.pop("name")), **values)


_OBSERVE = """
insert into memory_providers as p (namespace, name, uid, generation, created_at, activation, column_type,
reshape_to, wanted_identity, rerank, most_dimensions, keep_seconds, gate)
values ($1, $2, $3, $4, $5, $6, $7, $8, $10, $11, $12, $13, $14)
on conflict (namespace, name) do update set uid = excluded.uid, generation = excluded.generation,
created_at = excluded.created_at,
activation = case when $9 then excluded.activation else p.activation end,
column_type = case when $9 then excluded.column_type else p.column_type end,
reshape_to = case when $9 then excluded.reshape_to else p.reshape_to end,
-- What a call to the embedder told stays for as long as the spec that it was asked for.
wanted_identity = case when $9 then coalesce($10, case when p.uid = excluded.uid and p.generation = excluded.generation
  then p.wanted_identity end) else p.wanted_identity end,
rerank = case when $9 then excluded.rerank else p.rerank end,
rerank_outcome = case when $9 and p.rerank is distinct from excluded.rerank then null else p.rerank_outcome end,
rerank_message = case when $9 and p.rerank is distinct from excluded.rerank then null else p.rerank_message end,
most_dimensions = case when $9 then excluded.most_dimensions else p.most_dimensions end,
keep_seconds = case when $9 then excluded.keep_seconds else p.keep_seconds end,
gate = case when $9 then excluded.gate else p.gate end,
absent_since = null, observed_at = now()
where p.uid <> excluded.uid or p.generation <= excluded.generation
returning true
"""


async def observe(
    conn: Conn,
    ref: ProviderRef,
    uid: str,
    generation: int,
    created_at: datetime,
    declared: DeclaredSpec | None,
) -> bool:
    """Store what a Provider says now; False when a newer generation of the same object was seen already.

    Without a declared spec, since it cannot be read, what it said before stays.
    """
    known = declared or DeclaredSpec("Automatic", "vector", None, None)
    return bool(
        await conn.fetchval(
            _OBSERVE,
            *ref,
            uid,
            generation,
            created_at,
            known.activation,
            known.column_type,
            known.reshape_to,
            declared is not None,
            known.identity,
            known.rerank.model_dump(mode="json") if known.rerank else None,
            known.most_dimensions,
            known.keep_seconds,
            known.gate.model_dump() if known.gate else None,
        )
    )


_GET = f"""select {_COLUMNS} from memory_providers where namespace = $1 and name = $2"""


async def get(conn: Conn, ref: ProviderRef) -> ProviderRow | None:
    """One Provider."""
    row = await conn.fetchrow(_GET, *ref)
    return _row(row) if row else None


_LOCK = f"""select {_COLUMNS} from memory_providers where namespace = $1 and name = $2 for update"""


async def lock(conn: Conn, ref: ProviderRef) -> ProviderRow | None:
    """One Provider, locked until the transaction ends."""
    row = await conn.fetchrow(_LOCK, *ref)
    return _row(row) if row else None


_RELEASE_SPACE = """
update memory_providers set applied_space_id = nullif(applied_space_id, $1),
beside_space_id = nullif(beside_space_id, $1) where applied_space_id = $1 or beside_space_id = $1
"""


async def release_space(conn: Conn, space_id: int) -> None:
    """Take a space away from whichever Provider has it, before another gets it."""
    await conn.execute(_RELEASE_SPACE, space_id)


_ALL_ROWS = f"""select {_COLUMNS} from memory_providers order by created_at, namespace, name"""


async def all_rows(conn: Conn) -> list[ProviderRow]:
    """Every Provider that was ever seen and is not forgotten, oldest first."""
    rows = await conn.fetch(_ALL_ROWS)
    return [_row(row) for row in rows]


_NAMESPACES = """
select namespace from memory_providers union select provider_namespace from memory_embedding_spaces
"""


async def namespaces(conn: Conn) -> set[str]:
    """Namespaces of all Providers that are known, and of those that a space was made for."""
    rows = await conn.fetch(_NAMESPACES)
    return {row["namespace"] for row in rows}


_BY_SPACE = f"""select {_COLUMNS} from memory_providers where applied_space_id = $1 or beside_space_id = $1"""


async def by_space(conn: Conn, space_id: int) -> ProviderRow | None:
    """The Provider that has a space, as the applied one or the one beside."""
    row = await conn.fetchrow(_BY_SPACE, space_id)
    return _row(row) if row else None


_REPOINT = """
update memory_providers set applied_space_id = $3, beside_space_id = $4 where namespace = $1 and name = $2
"""


async def repoint(conn: Conn, ref: ProviderRef, *, applied: int | None, beside: int | None) -> None:
    """Say which space a Provider has, and which one is filled beside it."""
    await conn.execute(_REPOINT, *ref, applied, beside)


_MARK_ABSENT = """
update memory_providers set absent_since = now(), beside_space_id = null, reshape_to = null, wanted_identity = null
where namespace = $1 and name = $2 and absent_since is null and observed_at < $3 returning true
"""


async def mark_absent(conn: Conn, ref: ProviderRef, before: datetime) -> bool:
    """Note that a Provider was missing from a full listing that began at `before`, by the database's clock.

    False when that is known already, or when it was seen since: then it was made after the listing was.
    """
    return bool(await conn.fetchval(_MARK_ABSENT, *ref, before))


_CLOCK = """select clock_timestamp()"""


async def clock(conn: Conn) -> datetime:
    """The database's time, which `mark_absent` compares with."""
    now: datetime = await conn.fetchval(_CLOCK)
    return now


_FORGET = """
delete from memory_providers where namespace = $1 and name = $2 and absent_since is not null
and applied_space_id is null
"""


async def forget(conn: Conn, ref: ProviderRef) -> None:
    """Drop the row of an absent Provider that has no space."""
    await conn.execute(_FORGET, *ref)


_SAVE_STATUS = """update memory_providers set status = $3 where namespace = $1 and name = $2"""


async def save_status(conn: Conn, ref: ProviderRef, status: dict[str, Any]) -> None:
    """Keep the last status, so that every process and every restart sees the same transitions."""
    await conn.execute(_SAVE_STATUS, *ref, status)


_PROVIDERS_TARGETING = """
select p.namespace, p.name from memory_providers p
join memory_embedding_spaces s on s.id = p.applied_space_id
where p.absent_since is null and s.dimensions <> $1
and (p.reshape_to = $1 or exists (select 1 from memory_pending_changes c
  where c.namespace = p.namespace and c.name = p.name and c.to_dim = $1))
order by 1, 2
"""


async def providers_targeting(conn: Conn, dimension: int) -> list[ProviderRef]:
    """The Providers whose in-place change to a dimension would discard a space: those a bare marker could mean."""
    rows = await conn.fetch(_PROVIDERS_TARGETING, dimension)
    return [ProviderRef(row["namespace"], row["name"]) for row in rows]


_MOST_DIMENSIONS = """
select max(greatest(most_dimensions, case column_type when 'halfvec' then 4000 end)) from memory_providers
"""


async def most_dimensions(conn: Conn) -> int:
    """How long the vectors may be that a Provider asks for, held or not; 0 where none is known."""
    return await conn.fetchval(_MOST_DIMENSIONS) or 0


_HOLD = """
insert into memory_pending_changes as c (namespace, name, uid, generation, from_dim, to_dim, vectors, chunks,
estimated_tokens, estimated_cost, currency, marker, message, doubt)
select p.namespace, p.name, p.uid, p.generation, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
from memory_providers p where p.namespace = $1 and p.name = $2 and p.uid = $3 and p.generation = $4
and p.absent_since is null for share of p
on conflict (namespace, name) do update set uid = excluded.uid, generation = excluded.generation,
from_dim = excluded.from_dim, to_dim = excluded.to_dim, vectors = excluded.vectors,
chunks = excluded.chunks, estimated_tokens = excluded.estimated_tokens,
estimated_cost = excluded.estimated_cost, marker = excluded.marker, message = excluded.message,
doubt = excluded.doubt,
since = case when c.to_dim = excluded.to_dim and c.uid = excluded.uid then c.since else now() end
returning true
"""


async def hold(conn: Conn, change: PendingChange) -> bool:
    """Record a held change, or bring its figures up to date; `since` stays while the target does.

    False when the Provider is not there any more, or no longer the one that was decided on.
    """
    effect = change.effect
    held = await conn.fetchval(
        _HOLD,
        *change.ref,
        change.uid,
        change.generation,
        effect.from_dim,
        effect.to_dim,
        effect.vectors_discarded,
        effect.chunks_to_embed,
        effect.estimated_tokens,
        effect.estimated_cost,
        effect.currency,
        change.marker,
        change.message,
        change.doubt,
    )
    return bool(held)


_EXPLAIN_HELD = """
update memory_pending_changes set message = $3, marker = 'waiting' where namespace = $1 and name = $2
"""


async def explain_held(conn: Conn, ref: ProviderRef, message: str) -> None:
    """Say why a held change that has its consent still waits."""
    await conn.execute(_EXPLAIN_HELD, *ref, message)


_SETTLE = """delete from memory_pending_changes where namespace = $1 and name = $2 returning to_dim"""


async def settle(conn: Conn, ref: ProviderRef) -> int | None:
    """Remove the held change of a Provider; the dimension that it waited for, or None when nothing was held."""
    to_dim = await conn.fetchval(_SETTLE, *ref)
    return None if to_dim is None else int(to_dim)


_PENDING_CHANGES = """select * from memory_pending_changes order by since, namespace, name"""


async def pending_changes(conn: Conn) -> list[PendingChange]:
    """All held changes, the oldest first."""
    return [_pending(row) for row in await conn.fetch(_PENDING_CHANGES)]


_PENDING_CHANGE = """select * from memory_pending_changes where namespace = $1 and name = $2"""


async def pending_change(conn: Conn, ref: ProviderRef) -> PendingChange | None:
    """The held change of a Provider."""
    row = await conn.fetchrow(_PENDING_CHANGE, *ref)
    return _pending(row) if row else None


def _pending(row: Row) -> PendingChange:
    return PendingChange(
        ref=ProviderRef(row["namespace"], row["name"]),
        uid=row["uid"],
        generation=row["generation"],
        effect=Effect(
            from_dim=row["from_dim"],
            to_dim=row["to_dim"],
            vectors_discarded=row["vectors"],
            chunks_to_embed=row["chunks"],
            estimated_tokens=row["estimated_tokens"],
            estimated_cost=row["estimated_cost"],
            currency=row["currency"],
        ),
        marker=row["marker"],
        message=row["message"],
        since=row["since"],
        doubt=row["doubt"],
    )


_LIVE = """select namespace, name from memory_providers where absent_since is null order by namespace, name"""


async def live(conn: Conn) -> list[ProviderRef]:
    """The Providers that exist, by name."""
    return [ProviderRef(*row) for row in await conn.fetch(_LIVE)]
