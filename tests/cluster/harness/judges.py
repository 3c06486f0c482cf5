"""Finds kube-score and checkov, which judge the chart from outside, or makes them, once a machine.

kube-score is built like helm. checkov has a hundred dependencies, which are nobody else's: it gets an environment of
its own, in `…/memory-operator/checkov/DIGEST/`, from requirements/judges.txt, by hash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.harness.errors import ProgramsMissingError
from cluster.harness.programs import BUILD_SECONDS, Say, cache_root, find_kube_score, locked, make

REQUIREMENTS = Path(__file__).resolve().parents[3] / "requirements" / "judges.txt"


@dataclass(frozen=True, slots=True)
class Judges:
    """What runs them: kube-score itself, and the Python that has checkov."""

    kube_score: Path
    checkov_python: Path


def find_judges(environment: Mapping[str, str], say: Say) -> Judges:
    """Both, made where they are not there yet. Raises ProgramsMissingError."""
    return Judges(find_kube_score(environment, say), _find_checkov(environment, say))


def _find_checkov(environment: Mapping[str, str], say: Say) -> Path:
    made_of = REQUIREMENTS.read_bytes() + sys.version.encode()
    folder = cache_root(environment) / "checkov" / hashlib.sha256(made_of).hexdigest()[:16]
    python = folder / "bin" / "python"
    if not python.exists():
        try:
            with locked(folder.with_name(f"{folder.name}.lock"), "checkov", say):
                if not python.exists():
                    _install(folder, environment, say)
        except OSError as error:
            raise ProgramsMissingError(f"checkov cannot be kept in the cache {folder}: {error}") from error
    return python


def _install(folder: Path, environment: Mapping[str, str], say: Say) -> None:
    say(f"installing checkov into {folder}, once on this machine, for about a minute ...")
    for left in folder.parent.glob("build-*"):  # of an installation that was killed: we hold the lock
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "environment"
        _run([sys.executable, "-m", "venv", str(fresh)], environment)
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--require-hashes")
        _run([str(fresh / "bin" / "python"), *install, "-r", str(REQUIREMENTS)], environment)
        os.replace(fresh, folder)  # its Python finds itself wherever it is; its scripts would not


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    kept = {key: value for key, value in environment.items() if not key.startswith("PYTHON")}
    make(
        command,
        kept,
        late=f"checkov was not installed in {BUILD_SECONDS:.0f} s",
        failed=f"`{' '.join(command[:4])}` failed while checkov was installed.",
    )
