"""What a Provider's limits and budget leave: asked before each call, alike for all workers of a store."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from memory_operator.contract.resource import ProviderRef
from memory_operator.plan.budget import Left, Spent, left
from memory_operator.plan.space import LimitsConfig
from memory_operator.store.db import locks
from memory_operator.store.db.pool import Conn, fetch_one
from memory_operator.store.jobs.jobs import Job
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import ledger
from memory_operator.store.usage.ledger import Intent, LedgerEntry

_CONCURRENCY_WAIT_SECONDS = 0.05
_WRITTEN_WITHIN_SECONDS = 30.0
"""A call that ended so long ago without that being written down was written down as the server went away."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The call may leave; it is in the ledger."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class Wait:
    """The call has to wait for its turn."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NotRunning:
    """The job was paused, cancelled or completed: no call may leave for it."""


async def request(conn: Conn, intent: Intent) -> Granted | Wait | NotRunning:
    """Ask for one call, in the caller's transaction. Where it is granted, it is in the ledger once that commits."""
    limits = intent.config.limits
    if limits != LimitsConfig():
        seconds = await _wait(conn, intent, limits)
        if seconds > 0:
            return Wait(seconds)
    entry = await ledger.intend(conn, intent)
    return NotRunning() if entry is None else Granted(entry)


_DAY_LEFT = """
select coalesce(max(d.spent_tokens), 0) as tokens, coalesce(max(d.spent_cost), 0) as cost from memory_usage_daily d
where d.namespace = $1 and d.name = $2 and d.day = (now() at time zone 'utc')::date
"""


async def day_left(conn: Conn, intent: Intent) -> Left:
    """What a Provider's budget of the day leaves for a call; those under way do not count yet."""
    row = await fetch_one(conn, _DAY_LEFT, *intent.ref)
    spent = Spent(0, Decimal(0), row["tokens"], row["cost"])
    return left(intent.config.budget, spent, intent.config.input_cost_per_1k)


_LOCK_JOB = """select 1 from memory_reembed_jobs where id = $1 for update"""

_BUDGET_LEFT = """
select j.spent_tokens, j.spent_cost, coalesce(d.spent_tokens, 0) as day_tokens,
coalesce(d.spent_cost, 0) as day_cost,
coalesce((select sum(estimated_tokens) from memory_usage_ledger where state = 'sent' and purpose = 'fill'
  and provider_namespace = $2 and provider_name = $3 and job_id = $1), 0)::bigint as job_open,
coalesce((select sum(estimated_tokens) from memory_usage_ledger where state = 'sent' and purpose = 'fill'
  and provider_namespace = $2 and provider_name = $3), 0)::bigint as day_open
from memory_reembed_jobs j left join memory_usage_daily d on d.namespace = $2 and d.name = $3
  and d.day = (now() at time zone 'utc')::date where j.id = $1
"""


async def budget_left(conn: Conn, space: Space, job: Job) -> Left:
    """What a job may still spend, with the calls under way at their estimates.

    The job is held until the caller's transaction ends, so that no other worker spends the same.
    """
    # A statement of its own: what the next one sees is what was there when the lock was had.
    await conn.execute(_LOCK_JOB, job.id)
    row = await fetch_one(conn, _BUDGET_LEFT, job.id, *space.ref)
    price = space.config.input_cost_per_1k
    per_token = price / 1000 if price else 0
    spent = Spent(
        row["spent_tokens"] + row["job_open"],
        row["spent_cost"] + row["job_open"] * per_token,
        row["day_tokens"] + row["day_open"],
        row["day_cost"] + row["day_open"] * per_token,
    )
    return left(space.config.budget, spent, price)


_HAS_OPEN_CALLS = """
select exists (select 1 from memory_usage_ledger where state = 'sent' and purpose = 'fill' and job_id = $1
  and presence = $2)
"""


async def has_open_calls(conn: Conn, job_id: int, presence: int) -> bool:
    """Whether calls of a worker for a job are in flight, or not stored yet: they may cost less than estimated."""
    return bool(await conn.fetchval(_HAS_OPEN_CALLS, job_id, presence))


_MAKE_BUCKETS = """
insert into memory_rate_limits (namespace, name, requests, tokens) values ($1, $2, 1, 1)
on conflict (namespace, name) do nothing
"""

_LOCK_BUCKETS = """
select requests, tokens, extract(epoch from clock_timestamp() - refilled_at)::float8 as passed
from memory_rate_limits where namespace = $1 and name = $2 for update
"""

_DRAW = """
update memory_rate_limits set requests = $3, tokens = $4, refilled_at = clock_timestamp()
where namespace = $1 and name = $2
"""


async def _wait(conn: Conn, intent: Intent, limits: LimitsConfig) -> float:
    """Seconds until the Provider's limits let a call leave; 0 when they do, and it is taken off what is left.

    The buckets hold a second's worth, so that no minute carries much more than it may; tokens may run into debt by
    one call, which the next ones wait for.
    """
    ref = intent.ref
    await conn.execute(_MAKE_BUCKETS, *ref)
    row = await fetch_one(conn, _LOCK_BUCKETS, *ref)
    if (
        limits.concurrency is not None
        and await _under_way(conn, ref, intent.config.timeout_seconds) >= limits.concurrency
    ):
        return _CONCURRENCY_WAIT_SECONDS
    requests, request_wait = _filled(row["requests"], row["passed"], limits.requests_per_minute, 1.0)
    tokens, token_wait = _filled(row["tokens"], row["passed"], limits.tokens_per_minute, 1.0)
    wait = max(request_wait, token_wait)
    if wait == 0:
        await conn.execute(_DRAW, *ref, requests - 1, tokens - (intent.tokens if limits.tokens_per_minute else 0))
    return wait


def _filled(had: float, passed: float, per_minute: int | None, needed: float) -> tuple[float, float]:
    """What a bucket holds now, and the seconds until it holds what is needed."""
    if per_minute is None:
        return needed, 0.0
    per_second = per_minute / 60
    has = min(max(1.0, per_second), had + max(0.0, passed) * per_second)
    return has, max(0.0, (needed - has) / per_second)


_CORRECT = """update memory_rate_limits set tokens = tokens - $3 where namespace = $1 and name = $2"""


async def correct(conn: Conn, ref: ProviderRef, tokens: int) -> None:
    """Take off, or give back, what calls took more, or less, than they were estimated at."""
    await conn.execute(_CORRECT, *ref, float(tokens))


_UNDER_WAY = """
select count(distinct call_id) from memory_usage_ledger where state = 'sent' and purpose in ('fill', 'maintenance')
and provider_namespace = $1 and provider_name = $2 and presence in
(select objid::bigint from pg_locks where locktype = 'advisory' and classid = $3 and granted)
and at > now() - make_interval(secs => $4)
"""


async def _under_way(conn: Conn, ref: ProviderRef, longest_seconds: float) -> int:
    """Calls of fills that are under way, of workers that live; none takes longer than `longest_seconds`."""
    return int(await conn.fetchval(_UNDER_WAY, *ref, locks.WORKERS, longest_seconds + _WRITTEN_WITHIN_SECONDS))
