"""What was used and what it cost, by the ledger and its daily sums; what Providers have used of their budget today."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from memory_operator.contract.resource import ProviderRef
from memory_operator.store.db.pool import Conn

GroupBy = Literal["day", "purpose", "model", "provider", "tenant"]

_GROUPS: dict[GroupBy, str] = {
    "day": "to_char(l.at at time zone 'utc', 'YYYY-MM-DD')",
    "purpose": "l.purpose",
    "model": "l.model",
    "provider": "l.provider_namespace || '/' || l.provider_name",
    "tenant": "coalesce(t.name, '')",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls and what they used; a call that several tenants share is one call, of which each has a part."""

    calls: int
    unanswered_calls: int
    """Those that got no whole answer, and may have been paid all the same."""
    refused_calls: int
    """Those that the vendor, or we, refused: an error, or a reply that cannot be used."""
    open_calls: int
    """Those that are under way."""
    inputs: int
    """Texts in answered calls."""
    tokens: int
    """As the vendor counted them, in answered calls."""
    uncounted_tokens: int
    """Estimated, for calls that may be paid and that the vendor told no count of: unanswered ones, mostly."""
    cost: Decimal | None
    """US dollars of what was counted; None where no price was known for any of it."""


# What was rolled up stands beside the rows that are still there. Of a call that several tenants share, `calls` says
# what it counts for in the sum, and `tenant_calls` what it counts for by tenant.
_USED = """
with raw as (select l.at, l.purpose, l.model, l.tenant_id, l.provider_namespace, l.provider_name, l.call_id, l.state,
    l.inputs, l.tokens, l.estimated_tokens, l.cost from memory_usage_ledger l where l.at >= $1 and l.at < $2),
old as (select d.*, d.day::timestamp at time zone 'utc' as at from memory_usage_days d
  where d.day >= ($1 at time zone 'utc')::date and d.day < ($2 at time zone 'utc')::date),
l as (select at, purpose, model, tenant_id, provider_namespace, provider_name, call_id, state,
    inputs::numeric as inputs, tokens::numeric as tokens, estimated_tokens, cost,
    0 as calls, 0 as unanswered_calls, 0 as refused_calls, 0 as tenant_calls, 0 as tenant_unanswered_calls,
    0 as tenant_refused_calls, 0 as uncounted_tokens from raw
  union all select at, purpose, model, tenant_id, provider_namespace, provider_name, null, 'answered',
    inputs, tokens, 0, cost, whole_calls, whole_unanswered_calls, whole_refused_calls, calls, unanswered_calls,
    refused_calls, uncounted_tokens from old),
sums as (select {group} as name, grouping({group}) as whole, $3::text is not null or ($4 and grouping({group}) = 0)
    as of_tenant,
  count(distinct l.call_id) as calls,
  count(distinct l.call_id) filter (where l.state = 'unanswered') as unanswered_calls,
  count(distinct l.call_id) filter (where l.state in ('refused', 'unusable')) as refused_calls,
  count(distinct l.call_id) filter (where l.state = 'sent') as open_calls,
  coalesce(sum(l.calls), 0) as old_calls, coalesce(sum(l.unanswered_calls), 0) as old_unanswered_calls,
  coalesce(sum(l.refused_calls), 0) as old_refused_calls, coalesce(sum(l.tenant_calls), 0) as tenant_calls,
  coalesce(sum(l.tenant_unanswered_calls), 0) as tenant_unanswered_calls,
  coalesce(sum(l.tenant_refused_calls), 0) as tenant_refused_calls,
  coalesce(sum(l.inputs) filter (where l.state = 'answered'), 0) as inputs,
  coalesce(sum(l.tokens), 0) as tokens,
  coalesce(sum(l.estimated_tokens) filter (where l.tokens is null
    and l.state in ('answered', 'unanswered', 'unusable')), 0) + coalesce(sum(l.uncounted_tokens), 0)
    as uncounted_tokens, sum(l.cost) as cost
  from l left join memory_tenants t on t.id = l.tenant_id where $3::text is null or t.name = $3
  group by grouping sets (({group}), ()))
select name, whole, calls + case when of_tenant then tenant_calls else old_calls end as calls,
unanswered_calls + case when of_tenant then tenant_unanswered_calls else old_unanswered_calls end as unanswered_calls,
refused_calls + case when of_tenant then tenant_refused_calls else old_refused_calls end as refused_calls,
open_calls, inputs, tokens, uncounted_tokens, cost from sums order by name
"""


async def used(
    conn: Conn, group_by: GroupBy, since: datetime, until: datetime, tenant: str | None
) -> tuple[list[tuple[str, Usage]], Usage]:
    """Usage in [since, until) by group, in their order, and in all; of one tenant, or of everybody.

    Calls for nobody in particular, such as probes of an embedder, are under no tenant's name.
    """
    rows = await conn.fetch(_USED.format(group=_GROUPS[group_by]), since, until, tenant, group_by == "tenant")
    found = [(row["name"], bool(row["whole"]), _usage(row)) for row in rows]
    return [(name, usage) for name, whole, usage in found if not whole], next(u for _, whole, u in found if whole)


def _usage(row: Any) -> Usage:
    """Sums are numeric, since no integer of the server's need hold them."""
    counts = {field.name: int(row[field.name]) for field in fields(Usage) if field.name != "cost"}
    return Usage(**counts, cost=row["cost"])


@dataclass(frozen=True, slots=True)
class SpentToday:
    """What fills of a Provider have used today, in UTC, and of it what is under way, as it is estimated."""

    tokens: int
    cost: Decimal
    open_tokens: int


_TODAY = """select (now() at time zone 'utc')::date"""

_SPENT_TODAY = """
select namespace, name, sum(tokens) as tokens, sum(cost) as cost, sum(open) as open from (
select namespace, name, spent_tokens as tokens, spent_cost as cost, 0 as open from memory_usage_daily
  where day = $1
union all select provider_namespace, provider_name, 0, 0, estimated_tokens from memory_usage_ledger
  where state = 'sent' and purpose = 'fill') s group by namespace, name
"""


async def spent_today(conn: Conn) -> tuple[date, dict[ProviderRef, SpentToday]]:
    """The day by the database's clock, in UTC, and what counts against budgets on it."""
    today = await conn.fetchval(_TODAY)
    rows = await conn.fetch(_SPENT_TODAY, today)
    return today, {
        ProviderRef(row["namespace"], row["name"]): SpentToday(int(row["tokens"]), row["cost"], int(row["open"]))
        for row in rows
    }


_OPEN_BY_JOB = """
select job_id, sum(estimated_tokens) as tokens from memory_usage_ledger
where state = 'sent' and purpose = 'fill' and job_id is not null group by job_id
"""


async def open_by_job(conn: Conn) -> dict[int, int]:
    """Tokens of the calls of fills that are under way, as they are estimated, by job."""
    rows = await conn.fetch(_OPEN_BY_JOB)
    return {row["job_id"]: int(row["tokens"]) for row in rows}
