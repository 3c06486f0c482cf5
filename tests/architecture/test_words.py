"""One word for one thing: no name in the code is one that was given up for a plainer one (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GIVEN_UP = {
    "Answer": "QueryAnswer, CallResult, …Document: one each",
    "Asked": "JobRequest, SearchTerms",
    "Asking": "ChannelQuery",
    "Bench": "WorkerContext",
    "FED": "ACTIVE_STATES",
    "Hand": "InFlight",
    "Manners": "ServerCapabilities",
    "Overtaken": "a stale error of errors.py",
    "Pace": "ConcurrencyLimit",
    "SupersededError": "a stale error of errors.py",
    "TableGone": "SpaceVanished",
    "Wish": "DeclaredSpec",
    "answered_by_route": "responses",
    "ask_for_late": "queue_late_chunks",
    "asked": "what it is: a request, terms, a query",
    "asking": "what it is: a request, terms, a query",
    "be_present": "heartbeat",
    "beat": "heartbeat",
    "bury": "insert_tombstone",
    "cut_anew": "rechunk",
    "cut_off_after": "terminate_after",
    "demand": "require",
    "fed": "ACTIVE_STATES",
    "feed": "writes go to",
    "feed_lock": "gone",
    "feeding": "accepting_writes",
    "finds_as_much": "coverage_is_comparable",
    "give_another_try": "requeue_quarantined",
    "go_on": "resume_within_budget",
    "heading_for": "providers_targeting",
    "hold_for_switch": "lock_registry_exclusive",
    "hold_for_write": "lock_registry_shared",
    "lay_out": "create_ranges",
    "lazily": "durable",
    "lent": "reusable_hashes",
    "let_go": "release_space",
    "look_after_jobs": "maintain_jobs",
    "manners": "capabilities",
    "pace": "limit",
    "probe_written_down": "probe_dimensions",
    "recut": "rechunk",
    "speak_openai": "openai_embedder",
    "spread": "share_duplicates",
    "takes": "request_body",
    "tend_indexes": "reconcile_indexes",
    "told_plainly": "translate_errors",
    "twins": "duplicates",
    "understand": "parse_response",
    "walked": "exhausted",
    "wish": "declared",
}
"""Names of the first release, and what they are called now."""

SOURCES = sorted([*(ROOT / "operator").rglob("*.py"), *(ROOT / "webhook").rglob("*.py")])


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_one_that_was_given_up(path: Path) -> None:
    names = {name.lstrip("_") for name in [path.stem, *_names(ast.parse(path.read_text()))]}
    assert {name: GIVEN_UP[name] for name in names & set(GIVEN_UP)} == {}
