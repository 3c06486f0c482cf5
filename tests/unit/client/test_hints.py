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


def hints() -> Iterator[str]:
    """The hints in the server's sources, with 7 for what is filled in."""
    for folder in ("engine", "http"):
        for path in sorted((SOURCES / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.keyword) and node.arg == "hint":
                    yield re.sub(r"\{[a-z_.]+\}", "7", ast.unparse(node.value))


def test_no_hint_of_the_server_names_a_request_on_the_command_line() -> None:
    found = list(hints())
    assert any("/v1/" in hint for hint in found)
    left = [hint for hint in found if re.search(r"\b(GET|POST|PUT|PATCH|DELETE) (/|the)|/v1/", in_commands(hint))]
    assert left == []


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
