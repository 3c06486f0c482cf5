"""The doctor: what is to be looked at, what was found, and what is to be mended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, model_validator

from memory_operator.engine.admin.doctor.report import CheckName, RepairKind, Report, Result
from memory_operator.http.schemas.base import AnswerModel, Body, Money, Name
from memory_operator.plan.cost import CURRENCY


class DoctorBody(Body):
    """How far to look."""

    calls: bool = Field(
        default=True, description="Call the embedder of each Provider once, which its vendor may charge for."
    )


class RepairBody(Body):
    """What is to be mended; nothing is lost by it, and no vendor is called."""

    kind: Literal["release-leases", "drop-index"]
    subject: Name | None = Field(default=None, description="The index that is to be dropped.")

    @model_validator(mode="after")
    def _of_what(self) -> RepairBody:
        if (self.kind == "drop-index") != (self.subject is not None):
            raise ValueError("give a subject with drop-index, and only with it")
        return self


class RepairAnswer(AnswerModel):
    """What would mend a fault, and what it costs."""

    kind: RepairKind
    subject: str
    tokens: int = Field(description="About as many tokens are sent to the vendor.")
    cost: Money | None
    currency: str = CURRENCY


class FindingAnswer(AnswerModel):
    """What one check says of one thing."""

    check: CheckName
    result: Result
    subject: str = Field(description="The Provider, space, job or index; empty for the whole store.")
    message: str
    remedy: str = Field(description="The command that mends it.")
    repair: RepairAnswer | None = Field(description="What `memory doctor --fix` does about it.")


class DoctorAnswer(AnswerModel):
    """What is wrong, and what mends it."""

    verdict: Literal["ok", "warn", "fail"]
    at: datetime = Field(description="The server's clock, when all was looked at.")
    version: str
    checks: list[FindingAnswer]

    @classmethod
    def of(cls, report: Report, version: str) -> DoctorAnswer:
        """A report as the API shows it."""
        checks = [FindingAnswer.model_validate(finding) for finding in report.findings]
        return cls(verdict=report.verdict, at=datetime.now(UTC), version=version, checks=checks)


class RepairedAnswer(AnswerModel):
    """What was mended."""

    kind: RepairKind
    repaired: int
