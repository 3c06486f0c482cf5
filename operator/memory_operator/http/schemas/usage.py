"""Usage and quotas."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from memory_operator.engine.admin.usage import Quota
from memory_operator.http.schemas.base import AnswerModel, Money
from memory_operator.store.usage.totals import GroupBy


class UsedTotalAnswer(AnswerModel):
    """Calls to embedding vendors, and what they used."""

    calls: int
    unanswered_calls: int = Field(description="Without a whole answer; they may have been paid all the same.")
    refused_calls: int = Field(description="Refused by the vendor, or answered with what cannot be used.")
    open_calls: int = Field(description="Under way.")
    inputs: int = Field(description="Texts in answered calls.")
    tokens: int = Field(description="As the vendor counted them.")
    uncounted_tokens: int = Field(description="Estimated, for calls that may be paid and came without a count.")
    cost: Money | None = Field(description="US dollars of what was counted, exact; null where no price was known.")
    currency: Literal["USD"] = "USD"


class UsageGroupAnswer(UsedTotalAnswer):
    """What one day, purpose, model, Provider or tenant used."""

    group: str = Field(description="Its name; empty for the tenant of calls that are nobody's in particular.")


class UsageAnswer(AnswerModel):
    """Usage of some days."""

    since: date = Field(serialization_alias="from")
    until: date = Field(serialization_alias="to")
    group_by: GroupBy
    tenant: str | None = Field(description="Whose usage this is; null: everybody's.")
    groups: list[UsageGroupAnswer]
    total: UsedTotalAnswer


class BudgetAnswer(AnswerModel):
    """What fills may use before they pause; null: no bound."""

    tokens_per_job: int | None
    cost_per_job: Money | None
    tokens_per_day: int | None
    cost_per_day: Money | None


class LimitsAnswer(AnswerModel):
    """What the vendor allows; null: no declared limit."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None


class UsedAnswer(AnswerModel):
    """What counts against a budget, and what that leaves; calls under way count as they are estimated."""

    tokens: int
    cost: Money
    tokens_left: int | None = Field(description="Null where the budget has no such bound.")
    cost_left: Money | None


class JobQuotaAnswer(AnswerModel):
    """The open job of a Provider."""

    id: int
    state: Literal["running", "paused"]
    used: UsedAnswer


class QuotaAnswer(AnswerModel):
    """What one Provider may use."""

    provider: str
    embedding_version: str
    budget: BudgetAnswer
    limits: LimitsAnswer
    today: UsedAnswer
    resets_at: datetime = Field(description="When the day of the budget ends.")
    job: JobQuotaAnswer | None
    currency: Literal["USD"] = "USD"

    @classmethod
    def of(cls, quota: Quota) -> QuotaAnswer:
        """What one Provider may use."""
        job = None
        if quota.job is not None and quota.by_job is not None:
            state: Literal["paused", "running"] = "paused" if quota.job.job.state == "paused" else "running"
            job = JobQuotaAnswer(id=quota.job.job.id, state=state, used=UsedAnswer.model_validate(quota.by_job))
        return cls(
            provider=str(quota.ref),
            embedding_version=quota.embedding_version,
            budget=BudgetAnswer.model_validate(quota.budget),
            limits=LimitsAnswer.model_validate(quota.limits),
            today=UsedAnswer.model_validate(quota.today),
            resets_at=quota.resets_at,
            job=job,
        )


class QuotasAnswer(AnswerModel):
    """Budgets and limits, by Provider."""

    quotas: list[QuotaAnswer]
