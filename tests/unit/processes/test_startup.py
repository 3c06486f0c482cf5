"""What `memory-operator` and its processes import before they do anything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CLUSTER = {"kubernetes", "kopf"}
SERVER = {"fastapi", "uvicorn"}
STORE = {"asyncpg", "numpy", "httpx", "pydantic"}
GATE = {"memory_operator.engine.gate.controller"}
COMMAND_LINES = {"pygments", "httpx._main"}
"""What others import for a command line of their own."""


def loaded(code: str) -> set[str]:
    """Modules that some code imports, a `--help` that it runs included."""
    program = f"""
import json, sys
try:
    {code}
except SystemExit:
    pass
print("\\n" + json.dumps([name for name, module in sys.modules.items() if module]), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names: list[str] = json.loads(done.stderr.splitlines()[-1])
    return set(names)


def test_help_loads_no_process_and_nothing_that_one_needs() -> None:
    modules = loaded("from memory_operator.cli import app; app(['--help'])")
    assert not modules & (CLUSTER | SERVER | STORE | {"asyncio", "ssl", "prometheus_client"})
    assert len(modules) <= 350
    # What tells a word that is no choice of an option is Pydantic.
    modules = loaded("from memory_operator.cli import app; app(['api', '--help'])")
    assert not modules & (CLUSTER | SERVER | STORE - {"pydantic"} | {"asyncio", "ssl", "prometheus_client"})


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("memory_operator.processes.migrate", CLUSTER | SERVER | {"numpy", "httpx"}),
        ("memory_operator.processes.worker", COMMAND_LINES | GATE | {"fastapi", "kopf"}),
        ("memory_operator.processes.api", COMMAND_LINES | {"kopf", "memory_operator.engine.fill.worker"}),
        ("memory_operator.processes.check", COMMAND_LINES | SERVER | {"kopf"}),
        ("memory_operator.processes.operator", COMMAND_LINES | {"fastapi"}),
        ("memory_webhook.main", CLUSTER | {"fastapi", "asyncpg", "numpy", "httpx"}),
    ],
)
def test_a_process_loads_nothing_of_the_others(module: str, without: set[str]) -> None:
    assert not loaded(f"import {module}") & without
