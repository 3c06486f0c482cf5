"""docs/architecture.md leads to what is there: each `file::name` in it exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.py)(?:::([\w.]+))?`", PAGE)))


def _names(tree: ast.Module) -> set[str]:
    """What a module defines: names, and `Class.method`."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{each.name}" for each in inner}
    return found


def _layers() -> Iterator[Any]:
    """Of the packages in the table of what is inside: the layers that the linter holds, from the top."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    for contract in linter["contracts"]:
        package = contract["name"].removeprefix("The layers of ")
        if contract["type"] == "layers" and f"\n| `{package}` | " in PAGE:
            yield pytest.param(package, " | ".join(contract["layers"]).split(" | "), id=package)


@pytest.mark.parametrize(("package", "layers"), list(_layers()))
def test_the_page_names_the_layers_that_the_linter_holds(package: str, layers: list[str]) -> None:
    row = PAGE.partition(f"\n| `{package}` | ")[2].partition("\n")[0]
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(layers)


def test_the_page_refers_to_code() -> None:
    assert len(REFERENCES) > 30


@pytest.mark.parametrize(("file", "name"), REFERENCES, ids=lambda part: part or "file")
def test_a_reference_leads_to_code(file: str, name: str) -> None:
    path = ROOT / file if file.startswith("webhook/") else ROOT / "operator/memory_operator" / file
    assert path.is_file()
    assert not name or name in _names(ast.parse(path.read_text()))
