"""How much a fill may still spend."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from memory_operator.plan.space import BudgetConfig


@dataclass(frozen=True, slots=True)
class Spent:
    """What counts against a budget so far, calls under way included."""

    job_tokens: int
    job_cost: Decimal
    day_tokens: int
    day_cost: Decimal


UNSPENT = Spent(0, Decimal(0), 0, Decimal(0))


@dataclass(frozen=True, slots=True)
class Left:
    """What may still be sent."""

    tokens: int | None
    """None: as many as there are."""
    bound: str = ""
    """The bound that comes first, for people: which one, and what has been spent of it."""


def left(budget: BudgetConfig, spent: Spent, per_1k: Decimal | None) -> Left:
    """The tokens that the tightest bound leaves. A bound in money binds only where the Provider declares a price."""
    bounds = [
        (budget.tokens_per_job, spent.job_tokens, "tokens of this job"),
        (budget.tokens_per_day, spent.day_tokens, "tokens today (UTC)"),
    ]
    found = [
        Left(max(0, bound - used), f"{used} of {bound} {what}") for bound, used, what in bounds if bound is not None
    ]
    if per_1k:
        money = [
            (budget.cost_per_job, spent.job_cost, "for this job"),
            (budget.cost_per_day, spent.day_cost, "today (UTC)"),
        ]
        for most, paid, what in money:
            if most is not None:
                tokens = int(((most - paid) * 1000 / per_1k).to_integral_value(ROUND_FLOOR))
                found.append(Left(max(0, tokens), f"{paid.normalize():f} of {most.normalize():f} USD {what}"))
    return min(found, key=lambda each: each.tokens or 0, default=Left(None))
