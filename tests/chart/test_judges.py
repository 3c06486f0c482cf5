"""kube-score and checkov over each scenario: what they find is mended, or accepted with its reason in accepted.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.chart import SCENARIOS
from fixtures.judges import Finding

ACCEPTED: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "accepted.yaml").read_text())
NAMES = [path.name.removesuffix("-values.yaml") for path in SCENARIOS]


def accepted(scenario: str) -> set[Finding]:
    """What may be found in a scenario."""
    return {
        Finding(entry["judge"], entry["check"], entry["text"], subject)
        for entry in ACCEPTED
        if scenario not in entry.get("except", ())
        for subject in entry["subjects"]
    }


@pytest.mark.parametrize("scenario", NAMES)
def test_judges_find_nothing_that_is_not_accepted(scenario: str, findings: dict[str, frozenset[Finding]]) -> None:
    assert sorted(findings[scenario] - accepted(scenario)) == []


def test_what_is_accepted_is_still_found(findings: dict[str, frozenset[Finding]]) -> None:
    found = frozenset().union(*findings.values())
    assert sorted(set().union(*map(accepted, NAMES)) - found) == []


def test_each_judge_looks_at_every_scenario(findings: dict[str, frozenset[Finding]]) -> None:
    assert set(findings) == set(NAMES)
    for scenario, found in findings.items():
        assert {finding.judge for finding in found} == {"kube-score", "checkov"}, scenario


def test_each_entry_says_why_and_names_scenarios_that_there_are() -> None:
    for entry in ACCEPTED:
        assert set(entry) <= {"judge", "check", "text", "subjects", "except", "reason"}, entry
        assert entry["reason"].strip(), entry
        assert set(entry.get("except", ())) <= set(NAMES), entry
