"""What to do next is said in commands, also where the server says it in requests."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

import memory_operator
from fixtures.memory_api import StubMemoryApi, problem
from memory_operator.client.errors import in_commands

Run = Callable[..., Result]

SOURCES = Path(memory_operator.__file__).parent
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


REQUEST = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE) (/|the)|/v1/|/openapi|/docs")


def texts(tree: ast.Module) -> Iterator[str]:
    """What a module may say, with 7 for what is filled in: its texts but the docstrings, which nobody is told."""
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
    composed = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in composed for part in ast.walk(node)}
    yield from (re.sub(r"\{[^}]*\}", "7", ast.unparse(node)) for node in composed)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield "" if node.value in docs else node.value


def hints() -> list[str]:
    """The texts in the server's sources that name a request, but for pages."""
    files = [path for folder in ("engine", "http") for path in (SOURCES / folder).rglob("*.py")]
    said = [text for path in files for text in texts(ast.parse(path.read_text())) if " " in text and "</" not in text]
    return [text for text in said if REQUEST.search(text)]


def test_no_hint_of_the_server_names_a_request_on_the_command_line() -> None:
    assert len(hints()) > 10
    assert [hint for hint in hints() if REQUEST.search(in_commands(hint))] == []


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        (
            "wait for it, or cancel it: POST /v1/jobs/17/cancel",
            "wait for it, or cancel it: `memory embeddings cancel 17`",
        ),
        ("GET /v1/embeddings/spaces lists them", "`memory embeddings list` lists them"),
    ],
)
def test_a_hint_names_the_command_that_does_it(run: Run, memory_api: StubMemoryApi, hint: str, shown: str) -> None:
    memory_api.on("POST", "/v1/jobs/7/pause", problem(404, "not_found", "no", hint))
    assert f"hint: {shown}\n" in run("embeddings", "pause", "7").stderr
