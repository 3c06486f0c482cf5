"""SQL stands in store/ and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator/memory_operator"
STATEMENT = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s*\(|select\s+\w+\("
    r"|(create|alter|drop)\s+(table|index|view|role|database|extension)|lock\s+table|set\s+\w+\s*=|listen\s+\w+$)",
    re.IGNORECASE | re.DOTALL,
)
CALLS = {"fetch", "fetchrow", "fetchval", "executemany", "copy_records_to_table", "copy_to_table"}
"""What is only done to a connection."""

ACCEPTED = {
    "dev/postgres": "makes the database itself, before there is a store to connect to",
    "errors.py": "the line for an administrator, as text",
    "plan/consent.py": "the statement that a person may run, as text",
}
SOURCES = [
    path
    for path in sorted([*PACKAGE.rglob("*.py"), *(ROOT / "webhook").rglob("*.py")])
    if not str(path).startswith((str(PACKAGE / "store"), *(str(PACKAGE / place) for place in ACCEPTED)))
]


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_outside_of_store_has_no_statement(path: Path) -> None:
    tree = ast.parse(path.read_text())
    found = [(line, text) for line, text in _texts(tree) if STATEMENT.match(text)]
    assert found == []
    calls = [
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS
    ]
    assert calls == []


def test_the_test_knows_statements() -> None:
    store = [text for path in (PACKAGE / "store").rglob("*.py") for _, text in _texts(ast.parse(path.read_text()))]
    assert sum(bool(STATEMENT.match(text)) for text in store) > 100
