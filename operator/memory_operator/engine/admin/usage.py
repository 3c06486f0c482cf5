"""What was used and paid, and what Providers may still use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.spaces.activation import ACTIVE_STATES
from memory_operator.plan.cost import cost_of
from memory_operator.plan.space import BudgetConfig, LimitsConfig
from memory_operator.store.db.pool import Store
from memory_operator.store.jobs import control
from memory_operator.store.jobs.control import NamedJob
from memory_operator.store.spaces import spaces
from memory_operator.store.spaces.spaces import Space
from memory_operator.store.usage import totals
from memory_operator.store.usage.totals import GroupBy, SpentToday, Usage

SHOWN_DAYS = 30


@dataclass(frozen=True, slots=True)
class Bill:
    """Usage of some days, both ends included."""

    since: date
    until: date
    groups: Sequence[tuple[str, Usage]]
    total: Usage


@dataclass(frozen=True, slots=True)
class Used:
    """What counts against a budget, and what that leaves; calls under way count as they are estimated."""

    tokens: int
    cost: Decimal
    """US dollars."""
    tokens_left: int | None
    """None where there is no such bound."""
    cost_left: Decimal | None


@dataclass(frozen=True, slots=True)
class Quota:
    """What one Provider may use."""

    ref: ProviderRef
    embedding_version: str
    budget: BudgetConfig
    limits: LimitsConfig
    today: Used
    resets_at: datetime
    job: NamedJob | None
    """The open one."""
    by_job: Used | None
    """What that has used."""


class Accounts:
    """Reads the ledger. One for each event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def usage(self, group_by: GroupBy, since: date | None, until: date | None, tenant: str | None) -> Bill:
        """Usage of some days in UTC, of the last 30 unless said; of one tenant, or of everybody."""
        until = until or datetime.now(UTC).date()
        since = since or max(date.min, until - timedelta(days=min(SHOWN_DAYS - 1, until.toordinal() - 1)))
        async with self._store.connection() as conn:
            groups, total = await totals.used(conn, group_by, _start(since), _end(until), tenant)
        return Bill(since, until, groups, total)

    async def quotas(self) -> list[Quota]:
        """Budget and limits of each Provider that has a space which gets vectors, with what was used today."""
        async with self._store.connection() as conn:
            today, spent = await totals.spent_today(conn)
            newest = {space.ref: space for space in await spaces.all_spaces(conn) if space.state in ACTIVE_STATES}
            found = await control.open_jobs(conn, [space.id for space in newest.values()])
            open_by_job = await totals.open_by_job(conn)
        jobs = {named.job.space_id: named for named in found}
        resets = _start(today + timedelta(days=1))
        nothing = SpentToday(0, Decimal(0), 0)
        return [
            _quota(space, spent.get(ref, nothing), jobs.get(space.id), open_by_job, resets)
            for ref, space in sorted(newest.items())
        ]


def _quota(
    space: Space, spent: SpentToday, named: NamedJob | None, open_by_job: Mapping[int, int], resets_at: datetime
) -> Quota:
    budget, price = space.config.budget, space.config.input_cost_per_1k

    def used(tokens: int, cost: Decimal, under_way: int, most_tokens: int | None, most_cost: Decimal | None) -> Used:
        tokens, cost = tokens + under_way, cost + (cost_of(under_way, price) or 0)
        return Used(
            tokens,
            cost,
            None if most_tokens is None else max(0, most_tokens - tokens),
            None if most_cost is None else max(Decimal(0), most_cost - cost),
        )

    today = used(spent.tokens, spent.cost, spent.open_tokens, budget.tokens_per_day, budget.cost_per_day)
    by_job = None
    if named is not None:
        job, under_way = named.job, open_by_job.get(named.job.id, 0)
        by_job = used(job.spent_tokens, job.spent_cost, under_way, budget.tokens_per_job, budget.cost_per_job)
    return Quota(space.ref, space.embedding_version, budget, space.config.limits, today, resets_at, named, by_job)


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _end(day: date) -> datetime:
    """The last moment that a datetime can hold stands for the end of the last day."""
    return datetime.max.replace(tzinfo=UTC) if day == date.max else _start(day + timedelta(days=1))
