"""What `memory` costs before it does anything, and the table of commands that saves it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.main import get_command
from typer.testing import Result

from memory_operator.client.main import app

MODULES = """
import json, sys
from memory_operator.client.main import app
try:
    app(sys.argv[1:], standalone_mode=True)
except SystemExit:
    pass
print("\\n" + json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def modules_after(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", MODULES, *arguments], capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(done.stderr.splitlines()[-1])
    return loaded


def groups() -> list[tuple[list[str], str]]:
    context = get_command(app).make_context("memory", ["--help"], resilient_parsing=True)
    root = context.command
    embeddings = root.get_command(context, "embeddings")  # type: ignore[attr-defined]
    names = [([], name) for name in root.list_commands(context) if name != "embeddings"]  # type: ignore[attr-defined]
    return names + [(["embeddings"], name) for name in embeddings.list_commands(context)]


@pytest.mark.parametrize(("group", "name"), groups())
def test_a_command_is_listed_with_the_first_sentence_of_its_help(group: list[str], name: str) -> None:
    root = get_command(app)
    context = root.make_context("memory", ["--help"], resilient_parsing=True)
    for part in group:
        root = root.get_command(context, part)  # type: ignore[attr-defined]
    listed = root.get_command(context, name).help  # type: ignore[attr-defined]
    _, command, _ = root.resolve_command(context, [name])  # type: ignore[attr-defined]
    assert command.help.split("\n\n")[0] == listed


def test_a_command_loads_only_what_it_needs() -> None:
    loaded = modules_after("query", "x", "--server", "http://127.0.0.1:1")
    assert "memory_operator.client.commands.query" in loaded
    assert "memory_operator.client.commands.add" not in loaded
    assert not [name for name in modules_after("--help") if name.startswith("memory_operator.client.commands.")]


def test_help_loads_no_http_and_a_command_no_more_than_http() -> None:
    loaded = modules_after("--help")
    assert not {"httpx", "pydantic", "ssl", "asyncio"} & set(loaded)
    assert len(loaded) <= 350
    loaded = modules_after("query", "x", "--server", "http://127.0.0.1:1")
    # A bar is what Rich is for, and httpx would bring it and more for its own command line.
    assert not {"rich", "pygments", "click"} & set(loaded)
    assert len(loaded) <= 400


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "-n", "many"), "'--limit' / '-n': it has to be a valid integer"),
        (("list", "-n", "0"), "'--limit' / '-n': it has to be greater than or equal to 1"),
        (("usage", "--by", "year"), "'--by': 'year' is not one of 'day', 'purpose', 'model', 'provider', 'tenant'"),
        (("embeddings", "pause", "x"), "'ID': it has to be a valid integer"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_in_plain_words(
    run: Callable[..., Result], arguments: tuple[str, ...], said: str
) -> None:
    refused = run(*arguments, env={"COLUMNS": "200", "TERM": "dumb"})
    assert refused.exit_code == 2
    assert said in refused.stderr
    for as_json in (("--json", *arguments), (*arguments, "--json")):
        refused = run(*as_json)
        assert refused.exit_code == 2
        assert said in json.loads(refused.stderr)["detail"]
