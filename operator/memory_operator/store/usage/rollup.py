"""Old rows of the ledger, added up by day: the sums stay for ever, and tell the same as the rows did."""

from __future__ import annotations

from memory_operator.store.db.pool import Conn

SLICE_ROWS = 2_000
"""Rows that one transaction adds up, about: all rows of a call have one time, and go together."""

_OLD = "at < date_trunc('day', now(), 'UTC') - make_interval(days => $1)"

# A call has a row for each tenant: it counts once for each, and for all of them together once, at its first row.
_ROLL_UP = f"""
with oldest as (select at from memory_usage_ledger where {_OLD} order by at limit $2),
gone as (delete from memory_usage_ledger l where l.at >= (select min(at) from oldest)
  and l.at <= (select max(at) from oldest) and l.state <> 'sent' returning l.*),
numbered as (select g.*, (at at time zone 'utc')::date as day,
  row_number() over (partition by call_id, tenant_id order by id) = 1 as is_first_of_tenant,
  row_number() over (partition by call_id order by id) = 1 as is_first from gone g),
added as (insert into memory_usage_days as d (day, purpose, model, tenant_id, provider_namespace, provider_name,
  calls, unanswered_calls, refused_calls, whole_calls, whole_unanswered_calls, whole_refused_calls,
  inputs, tokens, uncounted_tokens, cost)
select day, purpose, model, tenant_id, provider_namespace, provider_name,
  count(*) filter (where is_first_of_tenant),
  count(*) filter (where is_first_of_tenant and state = 'unanswered'),
  count(*) filter (where is_first_of_tenant and state in ('refused', 'unusable')),
  count(*) filter (where is_first),
  count(*) filter (where is_first and state = 'unanswered'),
  count(*) filter (where is_first and state in ('refused', 'unusable')),
  coalesce(sum(inputs) filter (where state = 'answered'), 0), coalesce(sum(tokens), 0),
  coalesce(sum(estimated_tokens) filter (where tokens is null
    and state in ('answered', 'unanswered', 'unusable')), 0), sum(cost)
from numbered group by day, purpose, model, tenant_id, provider_namespace, provider_name
order by day, purpose, model, tenant_id, provider_namespace, provider_name
on conflict (day, purpose, model, tenant_id, provider_namespace, provider_name) do update set
  calls = d.calls + excluded.calls, unanswered_calls = d.unanswered_calls + excluded.unanswered_calls,
  refused_calls = d.refused_calls + excluded.refused_calls, whole_calls = d.whole_calls + excluded.whole_calls,
  whole_unanswered_calls = d.whole_unanswered_calls + excluded.whole_unanswered_calls,
  whole_refused_calls = d.whole_refused_calls + excluded.whole_refused_calls,
  inputs = d.inputs + excluded.inputs, tokens = d.tokens + excluded.tokens,
  uncounted_tokens = d.uncounted_tokens + excluded.uncounted_tokens,
  cost = case when d.cost is null then excluded.cost else d.cost + coalesce(excluded.cost, 0) end)
select count(*) from gone
"""


_OLDEST = f"""select at from memory_usage_ledger where {_OLD} and state <> 'sent' order by at limit 1"""


async def is_due(conn: Conn, kept_days: int) -> bool:
    """Whether there are rows for `roll_up`: nearly always there are none, and nothing needs to be locked."""
    return await conn.fetchval(_OLDEST, kept_days) is not None


async def roll_up(conn: Conn, kept_days: int, rows: int = SLICE_ROWS) -> int:
    """Add up a slice of the rows that are older than so many whole days in UTC, in one statement; how many there were.

    Two at a time take the same slice: the second one waits for the rows of the first, and then finds them gone.
    """
    return int(await conn.fetchval(_ROLL_UP, kept_days, rows))
