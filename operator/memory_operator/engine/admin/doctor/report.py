"""What the checks find, and what may be done about it without asking anybody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

Result = Literal["ok", "warn", "fail", "skipped", "not_permitted"]

CheckName = Literal[
    "database",
    "pgvector",
    "migrations",
    "master-key",
    "provider",
    "held",
    "active-space",
    "coverage",
    "orphans",
    "indexes",
    "index-recall",
    "bloat",
    "jobs",
    "leases",
    "pending",
    "quarantine",
    "clocks",
    "webhook",
    "disk",
]
CHECKS: tuple[CheckName, ...] = get_args(CheckName)
"""Every check, in the order of a report; docs/runbook.md has a row for each."""

RepairKind = Literal["release-leases", "drop-index", "reembed"]


@dataclass(frozen=True, slots=True)
class Repair:
    """Something safe that mends a fault: nothing is lost by it. One that costs a vendor's tokens has their number."""

    kind: RepairKind
    subject: str = ""
    """The space or index that it is about."""
    tokens: int = 0
    """About as many are sent."""
    cost: Decimal | None = None
    """US dollars; None where the Provider declares no price."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of one thing."""

    check: CheckName
    result: Result
    message: str
    subject: str = ""
    """The Provider, space, job or index that it is about; empty where it is the whole store."""
    remedy: str = ""
    """The command that mends it, or whom to ask; empty where nothing is to be done."""
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks found, in their order."""

    findings: Sequence[Finding]

    @property
    def verdict(self) -> Literal["ok", "warn", "fail"]:
        """The worst of what was found."""
        results = {finding.result for finding in self.findings}
        return "fail" if "fail" in results else "warn" if "warn" in results else "ok"


def ordered(findings: Sequence[Finding]) -> Report:
    """A report in the order of the checks."""
    return Report(sorted(findings, key=lambda finding: CHECKS.index(finding.check)))


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller may hear of, and do."""

    visible: frozenset[str] | None = None
    """Namespaces whose Providers they may look at; None: all."""
    payable: frozenset[str] | None = None
    """Namespaces for whose Providers they may have vendors called; None: all."""
    calls: bool = True
    """Whether vendors are to be called at all."""

    def sees(self, namespace: str) -> bool:
        """Whether they may hear of a namespace."""
        return self.visible is None or namespace in self.visible

    def pays(self, namespace: str) -> bool:
        """Whether they may have its vendors called."""
        return self.payable is None or namespace in self.payable

    @property
    def is_blind(self) -> bool:
        """Whether they may look at no namespace."""
        return self.visible is not None and not self.visible
