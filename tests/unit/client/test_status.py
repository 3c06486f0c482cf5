"""What is said about the state of the store, and watching it change."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Reply, StubMemoryApi, problem
from fixtures.store_state import filling, held, job, space, state

Run = Callable[..., Result]

STATUS = "/v1/embeddings/status"
ACTIVE = space(active=True)


def test_status_says_in_a_few_lines_how_well_it_can_search(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", STATUS, state(filling(active=True), jobs=[job()], held=[held()]))
    result = run("status")
    assert result.exit_code == 0
    assert f"server\t{memory_api.url}\n" in result.stdout
    assert "semantic search\tpartial: 25.0 % of the chunks have a vector\n" in result.stdout
    assert "held changes\t1\n" in result.stdout
    assert "memory embeddings consent 768" in result.stdout


STATES = [
    (state(ACTIVE), 0),
    (state(filling(active=True, coverage=0.995)), 0),
    (state(ACTIVE, status="embedder_unavailable"), 3),
    (state(), 4),
    (state(ACTIVE, held=[held()]), 7),
    (state(filling(active=True)), 9),
    (state(space()), 9),
    (state(space(), status="disabled"), 9),
    # A caller who may not see any space is told by the status alone.
    (state(status="ok"), 0),
    (state(status="filling"), 9),
]


@pytest.mark.parametrize("command", [["status"], ["embeddings", "status"]])
@pytest.mark.parametrize(("reply", "code"), STATES)
def test_the_exit_code_tells_the_state_only_when_asked(
    run: Run, memory_api: StubMemoryApi, command: list[str], reply: Reply, code: int
) -> None:
    memory_api.on("GET", STATUS, reply)
    assert run(*command).exit_code == 0
    assert run(*command, "--check").exit_code == code
    checked = run(*command, "--check", "--json")
    assert (checked.exit_code, json.loads(checked.stdout)) == (code, reply.body)


def test_the_spaces_their_fills_and_what_is_held_are_shown(run: Run, memory_api: StubMemoryApi) -> None:
    beside = filling(pending=2)
    finished = job("m-768-1", state="done")
    memory_api.on("GET", STATUS, state(ACTIVE, beside, jobs=[finished, job()], held=[held()]))
    result = run("embeddings", "status")
    assert "m-768-2: running, 250 of 1,000, 125/s, 6 s left\n" in result.stdout
    assert "m-768-2: 2 chunks wait for the embedder\n" in result.stdout
    assert "m-768-1: done" not in result.stdout
    assert "held: agents/memory-embeddings, since 2026-01-31" in result.stdout


def test_one_space_can_be_asked_for_by_its_name_or_its_provider(run: Run, memory_api: StubMemoryApi) -> None:
    other = filling("other-8-3", provider="agents/other")
    memory_api.on("GET", STATUS, state(ACTIVE, other))
    for name in ("other-8-3", "agents/other"):
        result = run("embeddings", "status", name)
        assert "other-8-3" in result.stdout
        assert "m-768-1" not in result.stdout
    unknown = run("embeddings", "status", "nope")
    assert unknown.exit_code == 1
    assert "spaces: m-768-1, other-8-3" in unknown.stderr


def test_watching_in_a_pipe_is_silent_until_the_space_is_ready(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", STATUS, [state(filling(active=True)), state(space(active=True))])
    result = run("embeddings", "status", "--watch")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "filling" not in result.stdout
    assert "semantic search\tok" in result.stdout


def test_watching_ends_when_what_is_left_waits_for_consent(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", STATUS, state(ACTIVE, held=[held()]))
    result = run("embeddings", "status", "--watch", "--json")
    assert result.exit_code == 7
    assert json.loads(result.stdout)["held"][0]["to"] == 768


def test_a_consent_of_a_moment_ago_is_given_time_to_be_applied(run: Run, memory_api: StubMemoryApi) -> None:
    waiting = state(ACTIVE, held=[held()])
    memory_api.on("GET", STATUS, [waiting, waiting, state(filling(active=True)), state(ACTIVE)])
    assert run("embeddings", "status", "--watch").exit_code == 0


@pytest.mark.parametrize(("trouble", "code"), [(None, 9), ("no answer", 3)])
def test_watching_ends_when_its_time_is_up_and_says_what_is_missing(
    run: Run, memory_api: StubMemoryApi, trouble: str | None, code: int
) -> None:
    memory_api.on("GET", STATUS, state(filling(active=True, trouble=trouble)))
    assert run("embeddings", "status", "--watch", "--timeout", "1s").exit_code == code


def test_watching_outlives_a_restart_of_the_server(run: Run, memory_api: StubMemoryApi) -> None:
    away = Reply(b"<html>", 502, "text/html")
    starting = problem(503, "unavailable", "the database cannot be reached", Retry_After="0")
    memory_api.on("GET", STATUS, [state(filling(active=True)), away, *[starting] * 4, state(ACTIVE)])
    assert run("embeddings", "status", "--watch").exit_code == 0


def test_what_happened_is_listed_with_who_when_and_from_where(run: Run, memory_api: StubMemoryApi) -> None:
    entry: dict[str, Any] = {
        "id": 7,
        "at": "2026-01-31T12:00:00+00:00",
        "actor": "alice",
        "origin": "10.0.0.7",
        "kind": "consent",
        "subject": "agents/memory-embeddings",
        "detail": {"target_dim": 768, "id": 5},
    }
    memory_api.on("GET", "/activity", Reply({"activities": [entry], "next_before": 7}))
    result = run("activities", "-n", "1", "--before", "9")
    assert memory_api.received[0].params == {"limit": "1", "before": "9"}
    _, line = result.stdout.splitlines()
    assert line.split("\t")[1:] == [
        "consent",
        "agents/memory-embeddings",
        "alice (10.0.0.7)",
        "target_dim=768, id=5",
    ]
    assert "--before 7" in result.stderr


def test_counts_are_shown_whatever_the_server_counts(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", "/v1/stats", Reply({"chunks": 120_431, "new_count": {"a": 1}}))
    assert run("stats").stdout == 'chunks\t120,431\nnew count\t{"a": 1}\n'
    memory_api.on("GET", "/v1/stats", Reply({"projects": [{"project": "notes", "memories": 1234}]}))
    assert run("stats").stdout == "memories of notes\t1,234\n"
