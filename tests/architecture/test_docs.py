"""docs/architecture.md leads to what is there: each `file::name` in it exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.py)(?:::([\w.]+))?`", PAGE)))


def _names(tree: ast.Module) -> set[str]:
    """What a module defines: names, and `Class.method`."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{each.name}" for each in inner}
    return found


def test_the_page_refers_to_code() -> None:
    assert len(REFERENCES) > 30


@pytest.mark.parametrize(("file", "name"), REFERENCES, ids=lambda part: part or "file")
def test_a_reference_leads_to_code(file: str, name: str) -> None:
    path = ROOT / file if file.startswith("webhook/") else ROOT / "operator/memory_operator" / file
    assert path.is_file()
    assert not name or name in _names(ast.parse(path.read_text()))
