"""What is said of one project: its figures, what is wrong with it, and what to do about that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Reply, StubMemoryApi, problem
from fixtures.store_state import filling, job, space, state

Run = Callable[..., Result]

STATUS = "/v1/embeddings/status"
STATS = "/v1/projects/stats"
ACTIVE = space(active=True)
IN_SPACE = {
    "embedding_version": "m-768-1",
    "provider": "agents/memory-embeddings",
    "state": "ready",
    "vectors": 12,
    "coverage": 1.0,
    "quarantined": 0,
    "pending": 0,
    "missing": 0,
}
COMMANDS = [["status"], ["embeddings", "status"], ["stats"]]


def notes(*spaces: dict[str, Any], **more: Any) -> Reply:
    """GET /v1/projects/stats?project=notes."""
    known = {"project": "notes", "tenant": "agents", "memories": 7, "chunks": 12, "outdated": 0, "rewriting": False}
    return Reply({**known, "spaces": list(spaces or [IN_SPACE]), **more})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_project_is_shown_with_what_each_space_has_of_it(
    run: Run, memory_api: StubMemoryApi, command: list[str]
) -> None:
    memory_api.on("GET", STATUS, state(ACTIVE))
    memory_api.on("GET", STATS, notes())
    result = run(*command, "--project", "notes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "project\tnotes\ntenant\tagents\nmemories of notes\t7\nchunks of notes\t12\n" in result.stdout
    assert "m-768-1\tready\t12\t100 %\t0\t0\t0\n" in result.stdout
    document = json.loads(run(*command, "--project", "notes", "--json").stdout)
    assert document.get("project", document) in (notes().body, "notes")
    assert memory_api.received[-1].params == {"project": "notes"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_project_that_is_not_there_is_an_error_that_names_those_that_are(
    run: Run, memory_api: StubMemoryApi, command: list[str]
) -> None:
    memory_api.on("GET", STATUS, state(ACTIVE))
    memory_api.on("GET", STATS, problem(404, "not_found", "there is no project nots", "this tenant has: notes"))
    result = run(*command, "--project", "nots")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: there is no project nots\nhint: this tenant has: notes\n" in result.stderr


RUNNING = state(filling(active=True), jobs=[job("m-768-1", id=7)])
PAUSED = state(filling(active=True), jobs=[job("m-768-1", id=7, state="paused", paused_for="user")])


@pytest.mark.parametrize(
    ("status", "stats", "cause", "remedy"),
    [
        (state(ACTIVE), notes(memories=0, chunks=0), "notes has no memories", "memory add TEXT -p notes"),
        (state(ACTIVE), notes(outdated=3), "3 memories of notes were cut", "memory embeddings reindex --project notes"),
        (state(ACTIVE), notes(rewriting=True), "words of notes are still being indexed", "memory language"),
        (state(space()), notes(), "no space is active", "memory embeddings activate NAME"),
        (state(), notes(), "no space is active", "apply a Provider with role embedding"),
        (
            state(space(active=True, trouble="no answer")),
            notes(),
            "embedder of m-768-1 gives no vectors: no answer",
            "kubectl describe provider memory-embeddings",
        ),
        (
            state(ACTIVE),
            notes({**IN_SPACE, "missing": 5}),
            "5 chunks of notes have no vector in m-768-1",
            "memory embeddings reembed --project notes --space m-768-1",
        ),
        (RUNNING, notes({**IN_SPACE, "missing": 5}), "5 chunks", "memory embeddings status --watch"),
        (PAUSED, notes({**IN_SPACE, "missing": 5}), "5 chunks", "memory embeddings resume 7"),
        (state(ACTIVE), notes({**IN_SPACE, "pending": 2}), "2 chunks of notes wait", "memory doctor says"),
        (
            state(ACTIVE),
            notes({**IN_SPACE, "quarantined": 2}),
            "2 chunks of notes are refused",
            "memory embeddings quarantine --space m-768-1",
        ),
    ],
)
def test_each_cause_is_said_with_its_remedy(
    run: Run, memory_api: StubMemoryApi, status: Reply, stats: Reply, cause: str, remedy: str
) -> None:
    memory_api.on("GET", STATUS, status)
    memory_api.on("GET", STATS, stats)
    for command in (["status"], ["embeddings", "status"]):
        result = run(*command, "--project", "notes")
        assert (result.exit_code, cause in result.stderr, remedy in result.stderr) == (0, True, True), result.stderr


def test_names_of_projects_are_completed(run: Run, memory_api: StubMemoryApi) -> None:
    known = [{"project": "notes", "memories": 7}, {"project": "other", "memories": 1}]
    memory_api.on("GET", "/v1/stats", Reply({"projects": known}))
    words = {"COMP_WORDS": "memory stats --project no", "COMP_CWORD": "3", "_MEMORY_COMPLETE": "complete_bash"}
    assert run(env=words).stdout.split() == ["notes"]
