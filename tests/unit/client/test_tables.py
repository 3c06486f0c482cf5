"""Tables at 80 and at 200 columns: no id and no figure is cut, whatever the terminal's width."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from fixtures.memory_api import Reply, StubMemoryApi
from fixtures.store_state import filling, job, space
from memory_operator.client import commands, views
from memory_operator.client.terminal.format import cell_width, one_line
from memory_operator.client.terminal.table import Columns, fit

SENTENCE = "the vendor says that the input holds nothing that it could embed, and will not try again 日本語のテキスト"
WIDTHS = (40, 80, 120, 200)


def tables() -> Iterator[Any]:
    for package in (commands, views):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in vars(import_module(module.name)).items():
                if isinstance(value, Columns):
                    yield pytest.param(value, id=f"{module.name.rpartition('.')[2]}{name}")


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
        assert cell_width(line) <= width or len(line.split()) <= 3 or SENTENCE in line


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


@pytest.mark.parametrize("width", ["80", "200"])
def test_the_number_of_a_job_and_its_figures_are_whole_on_a_terminal(
    terminal: Callable[..., Any], memory_api: StubMemoryApi, width: str
) -> None:
    long = "snowflake-arctic-embed2-1024-12"
    more = {"tokens": 1_234_567, "cost": "12.3456", "created_at": "2026-01-31T12:00:00+00:00", "project": "notes"}
    jobs = [job(long, id=17, kind="reembed", total=2304, done=1152, quarantined=3, **more)]
    memory_api.on("GET", "/v1/jobs", Reply({"jobs": jobs, "next_before": None}))
    spaces = [space(long, provider="agents/memory-embeddings-second", active=True), filling()]
    memory_api.on("GET", "/v1/embeddings/spaces", Reply({"spaces": spaces}))
    listed = terminal("embeddings", "jobs", env={"COLUMNS": width, "NO_COLOR": "1"})
    assert listed.ends() == 0
    for whole in ("17", long, "1,152", "2,304", "1,234,567", "12.3456 USD"):
        assert whole in one_line(listed.shown)
    listed = terminal("embeddings", "list", env={"COLUMNS": width, "NO_COLOR": "1"})
    assert listed.ends() == 0
    for whole in (long, "agents/memory-embeddings-second", "768", "100 %", "25.0 %", "cosine"):
        assert whole in one_line(listed.shown)
    for line in listed.shown.splitlines():
        assert cell_width(line) <= int(width)
