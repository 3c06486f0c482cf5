"""Each wall between folders refuses a wrong import: all of them are made at once in a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]

WRONG_IMPORTS = {
    "The layers of the server": ("operator/memory_operator/plan/cost.py", "memory_operator.engine.fill"),
    "backoff, errors, listening, logs, metrics, settings and turns stand below all and apart from the contract": (
        "operator/memory_operator/settings.py",
        "memory_operator.contract.provider",
    ),
    "The layers of engine": (
        "operator/memory_operator/engine/memories/recall.py",
        "memory_operator.engine.gate.reshape",
    ),
    "The layers of store": ("operator/memory_operator/store/db/pool.py", "memory_operator.store.usage.ledger"),
    "The layers of http": ("operator/memory_operator/http/problems.py", "memory_operator.http.routers.jobs"),
    "The layers of embedders": (
        "operator/memory_operator/embedders/http/request.py",
        "memory_operator.embedders.parts",
    ),
    "The layers of dev": ("operator/memory_operator/dev/folder.py", "memory_operator.dev.manifests.scan"),
    "The layers of dev.postgres": (
        "operator/memory_operator/dev/postgres/initdb.py",
        "memory_operator.dev.postgres.server",
    ),
    "The layers of kube": ("operator/memory_operator/kube/events.py", "memory_operator.kube.source"),
    "The layers of client": ("operator/memory_operator/client/errors.py", "memory_operator.client.session"),
    "the commands of client do not know each other": (
        "operator/memory_operator/client/commands/add.py",
        "memory_operator.client.commands.query",
    ),
    "the memory CLI talks HTTP and imports none of the server but what measures answers": (
        "operator/memory_operator/client/exit_codes.py",
        "memory_operator.contract.status",
    ),
    "nothing but its own entry point imports the client": (
        "operator/memory_operator/cli.py",
        "memory_operator.client.main",
    ),
    "the webhook imports the contract, listening, logs and nothing else of ours": (
        "webhook/memory_webhook/review.py",
        "memory_operator.plan.cost",
    ),
    "kopf and kubernetes only in kube": ("operator/memory_operator/engine/gate/reshape.py", "kopf"),
    "asyncpg and pgvector only in store": ("operator/memory_operator/engine/fill/writer.py", "asyncpg"),
    "opentelemetry only in traces": ("operator/memory_operator/http/app.py", "opentelemetry"),
    "httpx only in embedders and client": ("operator/memory_operator/kube/boundary.py", "httpx"),
}
"""By contract: a file that stands on the wrong side, and what it must not import."""


def _contracts() -> list[str]:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [contract["name"] for contract in linter["contracts"]]


def test_every_wall_has_a_wrong_import_that_tries_it() -> None:
    assert sorted(WRONG_IMPORTS) == sorted(_contracts())


def test_every_wall_refuses_its_wrong_import(tmp_path: Path) -> None:
    for name in ("operator", "webhook"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, module in WRONG_IMPORTS.values():
        with (tmp_path / file).open("a") as source:
            source.write(f"\nimport {module}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'operator'}:{tmp_path / 'webhook'}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    kept = re.findall(r"^(.*?) KEPT", done.stdout, re.MULTILINE)
    assert kept == [], done.stdout
    assert f"0 kept, {len(WRONG_IMPORTS)} broken" in done.stdout
