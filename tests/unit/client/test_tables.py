"""Tables at 80 and at 200 columns: no id and no figure is cut, whatever the terminal's width."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fixtures.memory_api import Reply, StubMemoryApi
from fixtures.store_state import filling, held, job, space, state
from memory_operator.client import commands, views
from memory_operator.client.terminal.format import cell_width, one_line
from memory_operator.client.terminal.table import Columns, fit

SENTENCE = "the vendor says that the input holds nothing that it could embed, and will not try again 日本語のテキスト"
WIDTHS = (40, 80, 120, 200)


def modules() -> Iterator[ModuleType]:
    for package in (commands, views):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield import_module(module.name)


def tables() -> Iterator[Any]:
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, Columns):
                yield pytest.param(value, id=f"{module.__name__.rpartition('.')[2]}{name}")


def row(columns: Columns, number: int) -> list[str]:
    """Cells that are as long as real ones become, each of them to be found again."""

    def cell(name: str) -> str:
        if name in columns.text:
            return SENTENCE
        figure = f"{number},304,{len(name)}17"
        return figure if name in columns.figures else f"{name[:4].lower()}-nomic-embed-text-768-{number}"

    return [cell(name) for name in columns.names]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("columns", list(tables()))
def test_every_table_shows_each_id_and_figure_whole_and_fits_the_terminal(columns: Columns, width: int) -> None:
    rows = [row(columns, number) for number in (1, 2)]
    lines = ["".join(cell.shown for cell in line).rstrip() for line in fit(columns, rows, width)]
    shown = "\n".join(lines)
    for cells in rows:
        for name, value in zip(columns.names, cells, strict=True):
            if name not in columns.text:
                assert value in shown
    for line in lines:
        # What is longer than a line by itself stands alone on one, for the terminal to break.
        assert cell_width(line) <= width or len(line.split()) <= 3


def test_text_is_broken_between_words_and_columns_leave_in_their_order() -> None:
    columns = Columns(("ID", "KIND", "TEXT"), figures=("ID",), text=("TEXT",), fold=("KIND", "TEXT"))
    rows = [["17", "reindex-of-everything", "one two three four five six seven"]]
    assert ["".join(cell.shown for cell in line).rstrip() for line in fit(columns, rows, 57)] == [
        "ID  KIND                   TEXT",
        "17  reindex-of-everything  one two three four five six",
        "                           seven",
    ]
    assert ["".join(cell.shown for cell in line).rstrip() for line in fit(columns, rows, 34)] == [
        "ID  TEXT",
        "17  one two three four five six",
        "    seven",
        "    KIND reindex-of-everything",
    ]
    assert ["".join(cell.shown for cell in line).rstrip() for line in fit(columns, rows, 32)] == [
        "ID",
        "17",
        "    KIND reindex-of-everything",
        "    TEXT one two three four five",
        "    six seven",
    ]


LONG = "snowflake-arctic-embed2-1024-12"
OWNER = "agents/memory-embeddings-second"
MEMORY = "0f3c1d2e-0000-4000-8000-000000000001"
AT = "2026-01-31T12:00:00+00:00"
SHOWN_DAY = "2026-01-31"
TEXT = {"id": MEMORY, "project": "notes", "version_no": 3, "text": SENTENCE, "created_at": AT, "created_by": "an agent"}
JOB = job(
    LONG, id=17, kind="reembed", total=2304, done=1152, quarantined=3, tokens=1_234_567, cost="12.3456", created_at=AT,
    project="notes",
)  # fmt: skip
SPACES = [space(LONG, provider=OWNER, active=True, quarantined=3), filling()]
USED = {"calls": 1304, "unanswered_calls": 17, "inputs": 120_431, "tokens": 1_234_567, "uncounted_tokens": 5_017}
REFUSED = {
    "id": "1234567.12",
    "memory": MEMORY,
    "project": "notes",
    "chunk": 17,
    "embedding_version": LONG,
    "reason": SENTENCE,
    "attempts": 12,
    "since": AT,
}
MARKER = {"id": 17, "target_dim": 768, "state": "unused", "provider": OWNER, "created_by": "ada", "created_at": AT}
PLANNED = {
    "embedding_version": LONG,
    "provider": OWNER,
    "estimate": {
        "chunks": 120_431,
        "already_there": 5_017,
        "copied": 1_304,
        "to_embed": 114_110,
        "estimated_tokens": 3_600_017,
        "estimated_cost": "0.072",
        "estimated_seconds": 4000,
    },
}
DID = {"id": 17, "at": AT, "actor": "ada", "kind": "reshape", "subject": LONG, "detail": {"provider": OWNER}}

REPLIES: dict[tuple[str, str], Any] = {
    ("GET", "/v1/memories"): {"memories": [TEXT], "next_before": None},
    ("GET", f"/memory/{MEMORY}/history"): {"versions": [TEXT]},
    ("GET", "/activity"): {"activities": [DID], "next_before": None},
    ("GET", "/v1/projects"): {
        "projects": [{"project": LONG, "language": "german", "languages": ["english", "german"], "rewriting": True}]
    },
    ("GET", "/v1/usage"): {
        "from": SHOWN_DAY, "to": SHOWN_DAY, "groups": [{"group": OWNER, **USED}], "total": {**USED, "cost": "12.3456"},
    },
    ("GET", "/v1/embeddings/spaces"): {"spaces": SPACES},
    ("GET", "/v1/embeddings/status"): state(*SPACES, jobs=[JOB], held=[held(OWNER)]).body,
    ("GET", "/v1/jobs"): {"jobs": [JOB], "next_before": None},
    ("GET", "/admin/embedding-dimension-change"): {"held": [held(OWNER)], "markers": [MARKER]},
    ("GET", "/v1/embeddings/quarantine"): {"quarantined": [REFUSED], "next_before": None},
    ("GET", "/v1/jobs/17/skipped"): {"skipped": [{**REFUSED, "quarantined": False}], "next_after": None},
    ("GET", "/v1/projects/stats"): {
        "project": LONG, "tenant": OWNER, "memories": 1_304, "chunks": 120_431, "outdated": 17, "spaces": [
            {**SPACES[0], "vectors": 115_414, "coverage": 0.958, "missing": 5_017, "pending": 1_304, "quarantined": 17},
        ],
    },
    ("POST", "/v1/reembed"): {"dry_run": True, "spaces": [PLANNED]},
    ("POST", "/v1/reindex"): {"dry_run": True, "spaces": [PLANNED], "memories": 1_304, "outdated": 17},
}  # fmt: skip
SPACE_CELLS = (LONG, OWNER, "768", "1,000", "100 %", "25.0 %", "cosine")
JOB_CELLS = ("17", LONG, "1,152", "2,304", "1,234,567", "12.3456 USD")
PLAN_CELLS = (LONG, OWNER, "120,431", "5,017", "1,304", "114,110", "3,600,017", "0.072 USD", "1 h 6 min")

TABLES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("list",): (MEMORY, "notes", SHOWN_DAY, SENTENCE),
    ("history", MEMORY): ("3", SHOWN_DAY, "an agent", "the vendor says"),
    ("activities",): (LONG, SHOWN_DAY, "ada", OWNER),
    ("language",): (LONG, "german", "english, german", "being indexed anew"),
    ("usage", "--by", "provider"): (OWNER, "1,304", "17", "120,431", "1,234,567", "5,017", "12.3456 USD"),
    ("embeddings", "list"): SPACE_CELLS,
    ("embeddings", "status"): (*SPACE_CELLS, "120,431", *JOB_CELLS),
    ("embeddings", "jobs"): JOB_CELLS,
    ("embeddings", "consent"): ("17", "768", OWNER, "unused", "ada", SHOWN_DAY),
    ("embeddings", "quarantine"): ("1234567.12", MEMORY, "17", LONG, "12", "the vendor says"),
    ("embeddings", "quarantine", "--job", "17"): ("1234567.12", MEMORY, "17", "notes", "kept", "the vendor says"),
    ("stats", "--project", LONG): (LONG, "115,414", "95.8 %", "5,017", "1,304", "17", "120,431"),
    ("embeddings", "reembed", "--dry-run"): PLAN_CELLS,
    ("embeddings", "rebuild", "--dry-run"): PLAN_CELLS,
    ("embeddings", "reindex", "--dry-run"): (*PLAN_CELLS, "1,304 memories"),
}
"""What each command with a table has to show whole."""


@pytest.mark.parametrize("columns", [80, 200])
def test_every_command_with_a_table_shows_it_whole_on_a_terminal(
    terminal: Callable[..., Any], memory_api: StubMemoryApi, columns: int
) -> None:
    for (method, path), document in REPLIES.items():
        memory_api.on(method, path, Reply(document))
    started = {each: terminal(*each, columns=columns, env={"NO_COLOR": "1"}) for each in TABLES}
    for arguments, run in started.items():
        assert run.ends() == 0, (arguments, run.shown)
        shown = one_line(run.shown)
        assert [whole for whole in TABLES[arguments] if whole not in shown] == [], (arguments, run.shown)
        tables = [line for line in run.shown.splitlines() if not re.match(r"held: |job |  |hint: |! ", line)]
        assert [line for line in tables if cell_width(line) > columns] == [], arguments


def test_no_command_with_a_table_is_left_out() -> None:
    sources = [
        Path(str(module.__file__)) for module in modules() if "Columns(" in Path(str(module.__file__)).read_text()
    ]
    tried = {name.replace("-", "_") for command in TABLES for name in command}
    shown_by = {"browse": "list", "memories": "history", "store": "activities", "rebuild": "rebuild"}
    shown_by |= {"spaces": "list", "projects": "stats"}
    assert [path.stem for path in sources if shown_by.get(path.stem, path.stem) not in tried] == []
