"""Breaks the gate in ways that people could break it, and sees that the property test notices each.

    python tests/mutants.py [--promise SEED:SEQUENCES:STEPS] [NAME …]

Each mutant is made in a copy of operator/, never in the tree. Exits 1 where one survives, or no longer applies: then it
is to be written anew for the code that is there. What is printed of each that is caught is the sequence that caught it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROPERTY = "tests/component/gate/test_promise.py"
PROMISE = "20261127:60:8"
"""The sequences of `make test`."""
PACKAGE = "operator/memory_operator"


@dataclass(frozen=True)
class Change:
    """A text in a file, which is there exactly once, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One way to break the gate."""

    name: str
    what: str
    changes: tuple[Change, ...]


def _mutant(name: str, what: str, *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(name, what, tuple(Change(*change) for change in changes))


_TAKE = "    if existing is not None and await claims.live_owner(conn, existing.id, change.owner.ref):\n"
_CONSUMED_APART = """\
    async with store.transaction() as conn:
        await locks.end_own_work(conn, table)
        if marker_id is not None:
            await _consume(conn, change.owner, change.config.dimensions, marker_id)
"""
_WANTED = "or s.space_identity = p.wanted_identity and {claims.ASKS}"

MUTANTS = (
    _mutant(
        "a-owner",
        "decide takes a space, whoever has it",
        ("plan/decide.py", "elif existing and existing.owner is not None:", "elif existing and existing.space_id < 0:"),
    ),
    _mutant(
        "a-owner-and-guard",
        "decide takes a space, whoever has it, and so does the transaction",
        ("plan/decide.py", "elif existing and existing.owner is not None:", "elif existing and existing.space_id < 0:"),
        (
            "engine/gate/reshape.py",
            _TAKE,
            _TAKE.replace("existing is not None", "existing is not None and existing.id < 0"),
        ),
    ),
    _mutant(
        "a-liveness",
        "a Provider that is gone owns its space like a live one",
        (
            "store/spaces/claims.py",
            "where absent_since is null and (namespace, name) <> ($1, $2) and $3 in",
            "where (namespace, name) <> ($1, $2) and $3 in",
        ),
    ),
    _mutant(
        "b-apart",
        "the marker is consumed in a transaction of its own, before the change",
        (
            "engine/gate/reshape.py",
            "    async with store.connection() as conn:\n        await locks.end_own_work(conn, table)\n",
            _CONSUMED_APART,
        ),
        (
            "engine/gate/reshape.py",
            "await _consume(conn, change.owner, change.config.dimensions, marker_id) if discarded else None",
            "await consent.get(conn, marker_id) if discarded and marker_id else None",
        ),
    ),
    _mutant(
        "b-kept",
        "the marker is not consumed",
        ("store/spaces/consent.py", "    await conn.execute(_CONSUME, marker.id, str(ref))\n", ""),
    ),
    _mutant(
        "c-wanted",
        "prune takes spaces that a live Provider asks for",
        ("store/spaces/spaces.py", f"(s.id in (p.applied_space_id, p.beside_space_id) {_WANTED})", "false"),
    ),
    _mutant(
        "d-hold",
        "a held change that takes another's place does not release it",
        ("engine/gate/held.py", "        await release(conn, change.ref)\n", "        pass\n"),
    ),
    _mutant(
        "d-decide",
        "a held change that is no longer asked for is not released",
        ("engine/gate/reconciler.py", "if change is not None and not stands:", "if change is None and not stands:"),
    ),
    _mutant(
        "e-fill",
        "a fill counts one vector too many",
        (
            "engine/fill/writer.py",
            "{space.id: stored.new + stored.copied}",
            "{space.id: stored.new + stored.copied + 1}",
        ),
    ),
    _mutant(
        "e-copied",
        "a fill counts one too few of the vectors that it copied",
        ("engine/fill/reader.py", "{origin.space.id: copied}", "{origin.space.id: copied - 1}"),
    ),
    _mutant(
        "e-chunks",
        "an added memory counts one chunk too many",
        (
            "store/memories/new_versions.py",
            "as scope, count(*) as n from chunk",
            "as scope, count(*) + 1 as n from chunk",
        ),
    ),
    _mutant(
        "f-clock",
        "whether a marker is expired is told by another clock than the database's",
        ("store/spaces/consent.py", "and m.expires_at > now()", "and m.expires_at > pg_catalog.now()"),
        ("store/spaces/consent.py", "when m.expires_at > now() then", "when m.expires_at > pg_catalog.now() then"),
    ),
)


def _mutated(mutant: Mutant, folder: Path) -> str | None:
    """Make the mutant in a copy of the package; why it cannot be made, or None."""
    shutil.copytree(ROOT / "operator", folder / "operator", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for change in mutant.changes:
        path = folder / PACKAGE / change.file
        text = path.read_text()
        if text.count(change.old) != 1:
            return f"{change.file} has {text.count(change.old)} times, not once: {change.old.strip()}"
        path.write_text(text.replace(change.old, change.new))
    return None


def _sequence(output: str) -> str:
    """What failed, and after which steps, from the output of the test."""
    said = re.findall(r"(?:^|[ |])(\w*(?:Error|Exception): .*)$", output, re.MULTILINE)
    steps = re.findall(r"(after step \d+ of .*)$", output, re.MULTILINE)
    return "\n".join([*said[-1:], *steps[:1]])


def _caught(mutant: Mutant, promise: str) -> bool:
    """Whether the property fails on a mutant; says how."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if problem := _mutated(mutant, folder):
            print(f"{mutant.name}: CANNOT BE MADE: {problem}", flush=True)
            return False
        sources = os.pathsep.join([str(folder / "operator"), str(ROOT / "webhook")])
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", PROPERTY],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": sources, "MEMORY_PROMISE": promise},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 1 and "after step" in done.stdout:
        print(f"{mutant.name}: caught ({mutant.what})\n{_sequence(done.stdout)}\n", flush=True)
        return True
    word = "SURVIVES" if done.returncode == 0 else "DOES NOT RUN"
    print(f"{mutant.name}: {word} ({mutant.what})\n{done.stdout[-2000:]}{done.stderr[-2000:]}", flush=True)
    return False


def main() -> int:
    """Try the mutants that are named, or all."""
    parser = argparse.ArgumentParser(description="See that the property test notices a broken gate.")
    parser.add_argument("--promise", default=PROMISE, help="SEED:SEQUENCES:STEPS of each run; those of `make test`")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(mutant.name for mutant in MUTANTS))
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not given.names or mutant.name in given.names]
    missed = [mutant.name for mutant in chosen if not _caught(mutant, given.promise)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutants were caught{': not ' if missed else ''}{missed or ''}")
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
