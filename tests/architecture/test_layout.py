"""The tree keeps the shape that the README shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("operator", "webhook", "tests") for path in (ROOT / folder).rglob("*.py"))
MAX_LINES = 400


def test_the_source_roots_are_no_packages() -> None:
    """operator/__init__.py would shadow the standard library's module of that name."""
    assert not (ROOT / "operator/__init__.py").exists()
    assert not (ROOT / "webhook/__init__.py").exists()


def test_the_walls_between_folders_stand() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_a_reader_takes_in(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", ["operator", "webhook", "postgres", "build", "dev", "test"])
def test_requirements_are_pinned_by_hash_and_name_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==", text, re.MULTILINE)
    assert pins
    assert text.count("--hash=sha256:") >= len(pins)
    assert not re.search(r"--(extra-)?index-url|--find-links|https?://", text)


def test_the_webhook_installs_little() -> None:
    text = (ROOT / "requirements/webhook.txt").read_text()
    for heavy in ("kopf", "kubernetes", "asyncpg", "numpy", "fastapi", "cryptography"):
        assert not re.search(rf"^{heavy}==", text, re.MULTILINE), heavy
