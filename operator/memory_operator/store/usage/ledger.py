"""The ledger of calls to vendors: a row before each call leaves, completed when it ends; split among its tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal
from uuid import UUID, uuid4

from memory_operator.contract.resource import ProviderRef
from memory_operator.errors import SpaceVanished
from memory_operator.plan.cost import cost_of, split
from memory_operator.plan.space import CallConfig
from memory_operator.store.db.pool import Conn
from memory_operator.store.spaces.spaces import Space

Purpose = Literal["fill", "add", "query", "probe", "rerank", "maintenance", "compare", "rehearse"]
Ending = Literal["answered", "unusable", "refused", "unanswered"]

_FORGOTTEN_SECONDS = 900
"""A call that is still under way after so long died with its process."""


@dataclass(frozen=True, slots=True)
class Share:
    """One tenant's part in a call."""

    tenant_id: int | None
    inputs: int
    tokens: int
    """Estimated."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A call that is about to leave."""

    ref: ProviderRef
    """Whose call it is."""
    config: CallConfig
    purpose: Purpose
    shares: Sequence[Share]
    space_id: int | None = None
    """None before there is a space."""
    embedding_version: str | None = None
    job_id: int | None = None
    presence: int | None = None

    @classmethod
    def of(
        cls,
        space: Space,
        purpose: Purpose,
        shares: Sequence[Share],
        job_id: int | None = None,
        presence: int | None = None,
    ) -> Intent:
        """A call for a space."""
        return cls(space.ref, space.config, purpose, shares, space.id, space.embedding_version, job_id, presence)

    @property
    def tokens(self) -> int:
        """Estimated tokens of the whole call."""
        return sum(share.tokens for share in self.shares)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The rows of one call."""

    call_id: UUID
    ids: Sequence[int]
    intent: Intent


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended."""

    entry: LedgerEntry
    ending: Ending
    tokens: int | None = None
    """Tokens that the vendor counted for the whole call; None when it did not say."""

    @property
    def cost(self) -> Decimal | None:
        """Exact price of the whole call; None where it is unknown."""
        return cost_of(self.tokens, self.entry.intent.config.input_cost_per_1k)

    @property
    def spent_tokens(self) -> int:
        """What counts against a budget: what a vendor does not tell is estimated, and no answer may still be paid."""
        if self.ending == "refused":
            return 0
        return self.entry.intent.tokens if self.tokens is None else self.tokens


_INTEND = """
insert into memory_usage_ledger (call_id, purpose, tenant_id, provider_namespace, provider_name, space_id,
  embedding_version, model, job_id, presence, inputs, estimated_tokens)
select $1, $2, s.tenant_id, $3, $4, $5, $6, $7, $8, $9, s.inputs, s.tokens
from unnest($10::int[], $11::int[], $12::bigint[]) as s (tenant_id, inputs, tokens)
where ($8::bigint is null or exists (select 1 from memory_reembed_jobs j where j.id = $8 and j.state = 'running'))
and ($5::bigint is null or exists (select 1 from memory_embedding_spaces o where o.id = $5))
returning id
"""

_INTEND_RELAXED = f"""
with relaxed as (select set_config('synchronous_commit', 'off', true)), written as ({_INTEND})
select id from written, relaxed
"""


_HAS_SPACE = """select exists (select 1 from memory_embedding_spaces where id = $1)"""


async def intend(conn: Conn, intent: Intent, *, durable: bool = True) -> LedgerEntry | None:
    """Write down a call before it leaves; None when its job no longer runs, and it must not.

    A row that is not `durable` survives the death of this process at once, and that of the server a moment later.
    Raises SpaceVanished.
    """
    call_id, config = uuid4(), intent.config
    rows = await conn.fetch(
        _INTEND if durable else _INTEND_RELAXED,
        call_id,
        intent.purpose,
        *intent.ref,
        intent.space_id,
        intent.embedding_version,
        config.model or config.type,
        intent.job_id,
        intent.presence,
        [share.tenant_id for share in intent.shares],
        [share.inputs for share in intent.shares],
        [share.tokens for share in intent.shares],
    )
    if not rows and intent.space_id is not None and not await conn.fetchval(_HAS_SPACE, intent.space_id):
        raise SpaceVanished
    return LedgerEntry(call_id, [row["id"] for row in rows], intent) if rows else None


_COMPLETE = """
update memory_usage_ledger l set state = o.state, tokens = o.tokens, cost = o.cost, ended_at = now()
from unnest($1::bigint[], $2::text[], $3::bigint[], $4::numeric[]) as o (id, state, tokens, cost)
where l.id = o.id and (l.state = 'sent' or l.state = 'unanswered' and o.state <> 'unanswered')
returning l.id
"""

_COMPLETE_RELAXED = f"""
with relaxed as (select set_config('synchronous_commit', 'off', true)), written as ({_COMPLETE})
select id from written, relaxed
"""


async def complete(conn: Conn, outcomes: Sequence[Outcome], *, durable: bool = True) -> Sequence[Outcome]:
    """Write down how calls ended; tokens and cost are split by what each tenant's texts were estimated at.

    Returns those that were not written down before: a commit whose answer was lost is made once more. `durable` as for
    `intend`.
    """
    ids: list[int] = []
    endings: list[str] = []
    tokens: list[int | None] = []
    costs: list[Decimal | None] = []
    for outcome in outcomes:
        intent = outcome.entry.intent
        parts = split(outcome.tokens, [share.tokens for share in intent.shares])
        ids += outcome.entry.ids
        endings += [outcome.ending] * len(parts)
        tokens += parts
        costs += [cost_of(part, intent.config.input_cost_per_1k) for part in parts]
    rows = await conn.fetch(_COMPLETE if durable else _COMPLETE_RELAXED, ids, endings, tokens, costs)
    fresh = {row["id"] for row in rows}
    return [outcome for outcome in outcomes if fresh.issuperset(outcome.entry.ids)]


@dataclass(frozen=True, slots=True)
class LateRow:
    """A call for one tenant that is written down after it left."""

    entry: LedgerEntry
    began_ago: float
    """Seconds."""
    outcome: Outcome | None
    """None: it is under way."""
    ended_ago: float


# Whoever is written twice, since the reply to the first time was lost, stands there once.
_WRITE_LATE = """
with relaxed as (select set_config('synchronous_commit', 'off', true)),
given as (select g.* from relaxed, unnest($1::uuid[], $2::float8[], $3::float8[], $4::text[], $5::text[], $6::int[],
    $7::text[], $8::text[], $9::bigint[], $10::text[], $11::text[], $12::int[], $13::bigint[], $14::bigint[],
    $15::numeric[]) as g (call_id, began_ago, ended_ago, state, purpose, tenant_id, namespace, name, space_id, version,
    model, inputs, estimated_tokens, tokens, cost)),
ended as (update memory_usage_ledger l set state = g.state, tokens = g.tokens, cost = g.cost,
    ended_at = now() - make_interval(secs => g.ended_ago)
  from given g where l.call_id = g.call_id and g.state <> 'sent'
  and (l.state = 'sent' or l.state = 'unanswered' and g.state <> 'unanswered'))
insert into memory_usage_ledger (call_id, at, ended_at, state, purpose, tenant_id, provider_namespace, provider_name,
  space_id, embedding_version, model, inputs, estimated_tokens, tokens, cost)
select call_id, now() - make_interval(secs => began_ago),
  case when state <> 'sent' then now() - make_interval(secs => ended_ago) end, state, purpose, tenant_id,
  namespace, name, (select s.id from memory_embedding_spaces s where s.id = space_id), version, model, inputs,
  estimated_tokens, tokens, cost
from given g where not exists (select from memory_usage_ledger l where l.call_id = g.call_id)
"""


async def write_late(conn: Conn, rows: Sequence[LateRow]) -> None:
    """Write down calls that have left already, each as it is by now; those that are there as under way are completed.

    Not durable, as for `intend`.
    """
    columns: list[tuple[object, ...]] = [
        (
            row.entry.call_id,
            row.began_ago,
            row.ended_ago,
            row.outcome.ending if row.outcome else "sent",
            row.entry.intent.purpose,
            row.entry.intent.shares[0].tenant_id,
            *row.entry.intent.ref,
            row.entry.intent.space_id,
            row.entry.intent.embedding_version,
            row.entry.intent.config.model or row.entry.intent.config.type,
            row.entry.intent.shares[0].inputs,
            row.entry.intent.tokens,
            row.outcome.tokens if row.outcome else None,
            row.outcome.cost if row.outcome else None,
        )
        for row in rows
    ]
    if columns:
        await conn.execute(_WRITE_LATE, *map(list, zip(*columns, strict=True)))


_SPEND_OF_JOB = """
update memory_reembed_jobs set calls = calls + $2,
spent_tokens = least(spent_tokens::numeric + $3::bigint, 9223372036854775807)::bigint,
spent_cost = spent_cost + $4,
tokens = case when $5::bigint is null then tokens
  else least(coalesce(tokens, 0)::numeric + $5, 9223372036854775807)::bigint end,
cost = case when $6::numeric is null then cost else coalesce(cost, 0) + $6 end where id = $1
"""

_SPEND_OF_DAY = """
insert into memory_usage_daily as d (namespace, name, day, spent_tokens, spent_cost)
values ($1, $2, (now() at time zone 'utc')::date, $3, $4) on conflict (namespace, name, day)
do update set spent_tokens = least(d.spent_tokens::numeric + excluded.spent_tokens,
  9223372036854775807)::bigint,
spent_cost = d.spent_cost + excluded.spent_cost
"""


async def spend(conn: Conn, job_id: int, outcomes: Sequence[Outcome]) -> None:
    """Add what calls of a job have used to the job, and to the day of its Provider."""
    if not outcomes:
        return
    answered = [outcome for outcome in outcomes if outcome.ending == "answered"]
    counts = [outcome.tokens for outcome in answered if outcome.tokens is not None]
    costs = [outcome.cost for outcome in answered if outcome.cost is not None]
    tokens, cost = _spent(outcomes)
    await conn.execute(
        # Release 0.1 stored any count of a vendor, up to the largest: nothing is added to that any more.
        _SPEND_OF_JOB,
        job_id,
        len(outcomes),
        tokens,
        cost,
        sum(counts) if counts else None,
        sum(costs, start=Decimal(0)) if costs else None,
    )
    await spend_of_day(conn, outcomes)


async def spend_of_day(conn: Conn, outcomes: Sequence[Outcome]) -> None:
    """Add what calls have used to the day of their Provider."""
    tokens, cost = _spent(outcomes)
    if tokens:
        await conn.execute(_SPEND_OF_DAY, *outcomes[0].entry.intent.ref, tokens, cost)


def _spent(outcomes: Sequence[Outcome]) -> tuple[int, Decimal]:
    """Tokens and cost, as they count against a budget."""
    costs = (cost_of(o.spent_tokens, o.entry.intent.config.input_cost_per_1k) or Decimal(0) for o in outcomes)
    return sum(outcome.spent_tokens for outcome in outcomes), sum(costs, start=Decimal(0))


_MARK_UNANSWERED = """
update memory_usage_ledger set state = 'unanswered', ended_at = now()
where state = 'sent' and at < now() - make_interval(secs => $1)
"""


async def mark_unanswered(conn: Conn) -> int:
    """Mark the calls that died with their process; how many."""
    done = await conn.execute(_MARK_UNANSWERED, _FORGOTTEN_SECONDS)
    return int(done.rpartition(" ")[2])
