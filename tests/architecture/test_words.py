"""One word for one thing: the names that were given up do not come back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("operator", "webhook", "tests", "docs", "helm") for path in (ROOT / folder).rglob("*.py")
)

GIVEN_UP = {
    "Answer": "whose it is: QueryAnswer, CallResult, a document",
    "Asked, Asking, asked, asking": "what is asked for: Request, Query, wanted",
    "Bench, pace, Pace, Manners, manners": "WorkerContext, ConcurrencyLimit, ServerCapabilities",
    "Hand, Wish, wish": "InFlight, DeclaredSpec",
    "Leave, _ask": "Permit, acquire_permit",
    "Overtaken, SupersededError": "the branch Stale of the errors",
    "TableGone": "SpaceVanished",
    "ask_for_late": "queue_late_chunks",
    "beat, _beat, be_present, _be_present": "heartbeat",
    "bury, _bury": "insert_tombstone",
    "cut_off_after": "terminate_after",
    "feed, fed, FED, feeding, feed_lock": "ACTIVE_STATES, accepting_writes",
    "finds_as_much": "coverage_is_comparable",
    "give_another_try": "requeue_quarantined",
    "go_on": "resume, resume_within_budget",
    "heading_for": "providers_targeting",
    "hold_for_switch, hold_for_write": "lock_registry_exclusive, lock_registry_shared",
    "lay_out, lay_out_again": "create_ranges, recreate_ranges",
    "lazily": "durable",
    "lent, _lent": "reusable_hashes",
    "let_go": "release_space",
    "look_after_jobs": "maintain_jobs",
    "probe_written_down": "probe_dimensions",
    "recut, cut_anew": "rechunk",
    "speak_openai": "openai_embedder",
    "spread": "share_duplicates",
    "takes, demand": "request_body, require",
    "tend, _tend, tend_indexes": "reconcile_indexes",
    "told_plainly, _told_plainly": "translate_errors",
    "trouble": "last_error",
    "twins": "duplicates",
    "understand": "parse_response",
    "walked, is_walked": "exhausted",
}
"""Names, and what to say instead."""

PUBLIC = {
    "trouble": (
        "a field of the API, and a column since 0.1",
        (
            "operator/memory_operator/client/",
            "operator/memory_operator/engine/admin/spaces.py",
            "operator/memory_operator/http/schemas/spaces.py",
            "operator/memory_operator/store/spaces/spaces.py",
            "tests/unit/client/",
        ),
    ),
}
"""Names that others rely on: why, and where they may stand."""

INSTEAD = {old: better for names, better in GIVEN_UP.items() for old in names.split(", ")}


def names_in(source: str) -> Iterator[tuple[int, str]]:
    """Each name that is defined, passed or read, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.alias(name=name, asname=other):
                yield from ((node.lineno, part) for part in [*name.split("."), other] if part)
            case ast.keyword(arg=str(name)):
                yield node.lineno, name


def given_up(path: str, source: str) -> list[str]:
    """What is wrong with the names of a file."""
    return [
        f"{path}:{line}: {name}; say {INSTEAD[name]}"
        for line, name in names_in(source)
        if name in INSTEAD and not (name in PUBLIC and path.startswith(PUBLIC[name][1]))
    ]


def test_no_name_is_one_that_was_given_up() -> None:
    assert [each for path in SOURCES for each in given_up(str(path.relative_to(ROOT)), path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "def let_go(): ...",
        "class Hand: ...",
        "x.twins",
        "f(lazily=True)",
        "from a import recut",
        "def f(pace): ...",
        "fed = 1",
    ],
)
def test_a_name_that_was_given_up_is_seen(source: str) -> None:
    assert len(given_up("a.py", source)) == 1
