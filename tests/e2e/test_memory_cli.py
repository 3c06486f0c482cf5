"""`memory` against the real server: what a user types from the first memory to another dimension."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.dev import Dev
from fixtures.waiting import eventually

PROGRAM = Path(sys.executable).with_name("memory")
TEXTS = {
    "tides": "The tide at the harbour is highest two hours after noon.",
    "bread": "A sourdough loaf rises overnight in a cold kitchen.",
    "rope": "The climber checks every knot of the rope before the wall.",
}

Memory = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def memory(dev: Dev) -> Memory:
    """Run `memory ARGUMENTS…` against the server of `dev`, in a pipe; the exit code must be the one expected."""

    def run(*arguments: str, code: int = 0, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(PROGRAM), *arguments],
            env={**os.environ, "MEMORY_API": f"http://127.0.0.1:{dev.port}"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def provider(dimensions: int) -> dict[str, Any]:
    return {"type": "local", "model": "wordllama", "embedding": {"dimensions": dimensions}}


def names(listing: str) -> dict[str, str]:
    """Mark by dimension, of `memory embeddings list`."""
    rows = [line.split("\t") for line in listing.splitlines()[1:]]
    return {row[3]: row[0] for row in rows}


def states(dev: Dev) -> list[str]:
    return [space["state"] for space in dev.get("/v1/embeddings/spaces")["spaces"]]


def test_the_whole_way_from_no_provider_to_another_dimension(dev: Dev, memory: Memory, tmp_path: Path) -> None:
    dev.start()
    memory("status", "--check", code=4)
    dev.apply("memory-embeddings", provider(256))
    eventually(lambda: dev.get("/v1/embeddings/spaces")["spaces"], "a space")
    memory("embeddings", "status", "--watch", "--timeout", "1m")

    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text, "tags": [tag]}) + "\n" for tag, text in TEXTS.items()) + "[]\n")
    added = json.loads(memory("add", "--file", str(file), "--json", code=5).stdout)
    assert (added["stored"], [row["line"] for row in added["refused"]]) == (3, [4])

    hits = memory("query", "baking", "--tag", "bread").stdout.splitlines()
    assert [line.split("\t")[3] for line in hits] == [TEXTS["bread"]]
    memory("status", "--check")

    dev.apply("memory-embeddings", provider(128))
    eventually(lambda: dev.get("/v1/embeddings/status")["held"], "a held change")
    held = memory("status", "--check", code=7)
    assert "256 → 128 dimensions: 3 vectors are discarded" in held.stdout
    memory("embeddings", "status", "--watch", code=7)

    assert "3 vectors are discarded" in memory("embeddings", "consent", "128", code=2).stderr
    memory("embeddings", "consent", "64", code=7)
    consent = json.loads(memory("embeddings", "consent", "128", "--yes", "--json").stdout)
    assert (consent["matches_held_change"], consent["effect"]["vectors_discarded"]) == (True, 3)
    memory("embeddings", "status", "--watch", "--timeout", "1m")
    dev.until_ready(128)
    assert names(memory("embeddings", "list").stdout) == {"128": "*"}
    kinds = [line.split("\t")[1] for line in memory("activities").stdout.splitlines()[1:]]
    assert "consent" in kinds
    assert memory("query", "baking", "-k", "1").stderr == ""

    dev.apply("memory-embeddings", provider(100))
    eventually(lambda: dev.get("/v1/embeddings/status")["held"], "a change to what the model cannot make")
    assert "makes no vectors of 100 dimensions" in memory("embeddings", "consent", "100", code=2).stderr
    memory("embeddings", "consent", "100", "--yes")
    eventually(
        lambda: "it has its consent, and waits" in memory("embeddings", "status").stdout, "the reason why it waits"
    )
    assert "wordllama makes vectors of 256, 128 or 64" in memory("doctor").stdout


def test_a_memory_is_edited_deleted_and_erased(dev: Dev, memory: Memory) -> None:
    dev.apply("memory-embeddings", provider(64))
    dev.start()
    memory_id = memory("add", "-", "--meta", "origin=test", stdin=TEXTS["rope"]).stdout.strip()
    assert TEXTS["rope"] in memory("show", memory_id).stdout
    memory("edit", memory_id, TEXTS["tides"], "--tag", "sea")
    shown = json.loads(memory("show", memory_id, "--json").stdout)
    assert (shown["version_no"], shown["text"], shown["tags"]) == (2, TEXTS["tides"], ["sea"])
    assert shown["metadata"] == {"origin": "test"}
    memory("delete", memory_id)
    memory("show", memory_id, code=1)
    versions = memory("history", memory_id).stdout.splitlines()[1:]
    assert [line.split("\t")[3] for line in versions] == ["(deleted)", TEXTS["tides"], TEXTS["rope"]]
    memory("delete", memory_id, "--purge", code=2)
    erased = json.loads(memory("delete", memory_id, "--purge", "--yes", "--json").stdout)
    assert erased["status"] == "purged"
    memory("show", "no-id-at-all", code=2)


def test_memories_are_listed_exported_and_known_by_the_beginning_of_their_ids(
    dev: Dev, memory: Memory, tmp_path: Path
) -> None:
    dev.apply("memory-embeddings", provider(64))
    dev.start()
    ids = [memory("add", text, "--tag", tag, "-p", "notes").stdout.strip() for tag, text in TEXTS.items()]
    listed = [line.split("\t") for line in memory("list", "-p", "notes").stdout.splitlines()[1:]]
    assert [(row[0], row[4]) for row in listed] == list(zip(reversed(ids), reversed(TEXTS.values()), strict=True))
    assert TEXTS["tides"] in memory("show", ids[0][:13]).stdout
    file = tmp_path / "notes.jsonl"
    memory("export", "-p", "notes", "-o", str(file))
    assert memory("add", "--file", str(file)).stdout == "3 stored\n"
    assert "memories of notes\t6" in memory("stats", "--project", "notes").stdout
    memory("embeddings", "quarantine")
    assert "0 refused chunks" in memory("embeddings", "quarantine", "--retry", "1.1").stdout


SEED_COMMANDS = """\
memory doctor
memory embeddings list
memory embeddings status --project my-project
memory embeddings activate b-second
memory embeddings activate a-first
memory embeddings reindex --project my-project
memory embeddings reindex --project my-project --backend b-second
memory embeddings reindex --project my-project --dry-run
memory embeddings reembed --project my-project
memory embeddings reembed --project my-project --backend b-second
memory embeddings reembed --project my-project --dry-run
memory embeddings prune --project my-project
memory embeddings prune --project my-project --dry-run
memory stats --project my-project
memory status --project my-project
"""


def test_the_commands_that_guides_name_run_as_they_are_written(dev: Dev, memory: Memory) -> None:
    dev.apply("a-first", provider(256))
    dev.start()
    dev.until_ready(256)
    for text in TEXTS.values():
        memory("add", text, "--project", "my-project")
    dev.apply("b-second", provider(64))
    eventually(lambda: len(dev.get("/v1/embeddings/spaces")["spaces"]) == 2, "a second space")
    memory("embeddings", "status", "--watch", "--timeout", "1m")
    for line in SEED_COMMANDS.splitlines():
        begins_a_job = re.search("reindex|reembed", line) and "--dry-run" not in line
        memory(*line.split()[1:], *(["--wait"] if begins_a_job else []))
    memory("embeddings", "rebuild", "--project", "my-project", "--yes", "--wait")


def test_spaces_are_compared_switched_and_pruned(dev: Dev, memory: Memory) -> None:
    dev.apply("a-first", provider(256))
    dev.start()
    dev.until_ready(256)
    for text in TEXTS.values():
        memory("add", text)
    dev.apply("b-second", provider(64))
    eventually(lambda: len(dev.get("/v1/embeddings/spaces")["spaces"]) == 2, "a second space")
    memory("embeddings", "status", "--watch", "--timeout", "1m")
    assert names(memory("embeddings", "list").stdout) == {"256": "*", "64": ""}

    memory("embeddings", "activate", "nothing-like-it", code=1)
    memory("embeddings", "activate", "b-second")
    assert names(memory("embeddings", "list").stdout) == {"256": "", "64": "*"}
    memory("embeddings", "deactivate")
    memory("status", "--check", code=9)
    assert "semantic search is off" in memory("query", "harbour").stderr
    memory("embeddings", "activate", "default/b-second")

    (dev.providers / "a-first.yaml").unlink()
    eventually(lambda: "orphaned" in states(dev), "an orphaned space")
    assert "would remove" in memory("embeddings", "prune", "--dry-run").stdout
    memory("embeddings", "prune", code=2)
    memory("embeddings", "prune", "--yes")
    assert names(memory("embeddings", "list").stdout) == {"64": "*"}


def test_what_the_server_refuses_is_told_with_its_reason(dev: Dev, memory: Memory) -> None:
    dev.start()
    refused = memory("embeddings", "consent", "3072", "--yes", code=2)
    assert "target_dim must be between 1 and 2000" in refused.stderr
    problem = json.loads(memory("embeddings", "activate", "agents/none", "--json", code=1).stderr)
    assert (problem["status"], problem["code"]) == (404, "not_found")
    memory("add", "", code=2)
