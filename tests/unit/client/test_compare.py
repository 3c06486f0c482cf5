"""`memory embeddings compare` and `rehearse`: what is sent, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem
from memory_operator.client.evaluation.side_by_side import _GOOD
from memory_operator.client.terminal.table import fit

Run = Callable[..., Result]

COMPARE = "/v1/embeddings/compare"
REHEARSALS = "/v1/embeddings/rehearsals"
MEMORIES = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(30)]
SIDE = {"provider": "agents/one", "model": "m", "dimensions": 8, "state": "ready", "input_cost_per_1k": "0.10"}
COMMON = {"both": 30, "only_first": 0, "only_second": 0}


def found(memories: list[str], **more: Any) -> dict[str, Any]:
    return {"fused": memories, "semantic": memories, "search_ms": 2.0, "tokens": 5, "embed_ms": 1.0, **more}


@pytest.fixture
def server(memory_api: StubMemoryApi) -> StubMemoryApi:
    """Two spaces, of which the second finds every answer one place later."""

    def compare(request: Received) -> Reply:
        body = request.body
        answers = [
            {
                "first": found([question["judged"][0], *MEMORIES[20:24]] if question["judged"] else MEMORIES[:3]),
                "second": found([MEMORIES[25], *question["judged"]] if question["judged"] else MEMORIES[1:4]),
                "missing": [],
            }
            for question in body.get("questions", [])[:4]  # it runs out of time
        ]
        draw = body.get("draw", {"count": 0})
        drawn = [
            {"project": "notes", "query": f"words of {memory}", "judged": [memory]}
            for memory in MEMORIES[: draw["count"]]
        ]
        sides = {"first": {**SIDE, "name": body["first"]}, "second": {**SIDE, "name": body["second"]}}
        return Reply({**sides, "in_common": COMMON, "drawn": drawn, "answers": answers})

    memory_api.on("POST", COMPARE, compare)
    return memory_api


def test_known_items_are_asked_a_few_at_a_time_until_all_are_answered(run: Run, server: StubMemoryApi) -> None:
    result = run("embeddings", "compare", "rehearsal-1", "rehearsal-2", "--sample", "12", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["questions"] == 12
    fused = document["judged"]["ways"]["fused"]["RR@10"]
    assert (fused["first"]["mean"], fused["second"]["mean"], fused["verdict"]) == (1.0, 0.5, "worse")
    assert document["first"]["cost_per_1000_queries"] == "0.500"
    bodies = [body for body in server.bodies("POST", COMPARE) if body.get("questions")]
    assert [len(body["questions"]) for body in bodies] == [10, 8, 4]
    assert {body["project"] for body in bodies} == {"notes"}


def test_a_gate_that_is_not_passed_exits_with_9_and_says_why(run: Run, server: StubMemoryApi) -> None:
    result = run("embeddings", "compare", "rehearsal-1", "rehearsal-2", "--sample", "12", "--gate", "0.1")
    assert result.exit_code == 9
    assert "gate not passed: nDCG@10 is" in result.stderr
    assert "favours full-text" in result.stderr
    assert run("embeddings", "compare", "rehearsal-1", "rehearsal-2", "--sample", "12", "--gate", "1").exit_code == 0


def test_questions_of_a_file_are_compared_without_a_judgement(run: Run, server: StubMemoryApi, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("one\n\ntwo\n")
    wanted = ("embeddings", "compare", "rehearsal-1", "rehearsal-2", "--queries", str(file))
    result = run(*wanted)
    assert result.exit_code == 0, result.stderr
    assert "overlap says how alike the answers are" in result.stderr
    [body] = server.bodies("POST", COMPARE)
    assert [one["query"] for one in body["questions"]] == ["one", "two"]
    assert run(*wanted, "--gate", "0.1").exit_code == 2
    assert run(*wanted, "--sample", "5").exit_code == 2


def test_a_dry_run_embeds_no_question(run: Run, server: StubMemoryApi) -> None:
    result = run("embeddings", "compare", "rehearsal-1", "rehearsal-2", "--sample", "12", "--dry-run")
    assert "12 questions would be embedded by both" in result.stdout
    assert not any(body.get("questions") for body in server.bodies("POST", COMPARE))


def test_what_is_compared_fits_80_columns() -> None:
    row = ("semantic nDCG@10", "0.536", "0.352", "-0.184", "-0.274 … -0.104", "< 0.001", "no more than chance")
    lines = ["".join(cell.shown for cell in line).rstrip() for line in fit(_GOOD, [row, row], 80)]
    assert len(lines) in (3, 5)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("ANSWER, MEASURE")


@pytest.fixture
def rehearsing(server: StubMemoryApi) -> StubMemoryApi:
    """A server that rehearses 30 chunks in three steps."""
    rehearsal = {"name": "rehearsal-7", "id": 7, "provider": "agents/one", "model": "m2", "chunks": 30, "refused": 0}
    plan = {"compared_with": "m-8-1", "chunks": 30, "projects": 1, "estimated_tokens": 900, "estimated_cost": "0.0900"}

    def begin(request: Received) -> Reply:
        begun = None if request.body.get("dry_run") else {**rehearsal, "embedded": 0}
        return Reply({**plan, "currency": "USD", "estimated_seconds": 3, "rehearsal": begun})

    server.on("POST", REHEARSALS, begin)
    server.on("POST", f"{REHEARSALS}/7/fill", [Reply({**rehearsal, "embedded": done}) for done in (10, 20, 30)])
    server.on("DELETE", f"{REHEARSALS}/7", Reply(status=204))
    return server


def test_a_rehearsal_is_priced_filled_compared_and_dropped(run: Run, rehearsing: StubMemoryApi) -> None:
    result = run("embeddings", "rehearse", "agents/one", "--model", "m2", "--questions", "12", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "about 900 tokens (0.09 USD at the Provider's price), 3 s" in result.stderr
    assert "rehearsal-7 is worse than m-8-1" in result.stdout
    calls = [(one.method, one.path) for one in rehearsing.received]
    assert calls[0] == ("POST", REHEARSALS)
    assert calls.count(("POST", f"{REHEARSALS}/7/fill")) == 3
    assert calls[-1] == ("DELETE", f"{REHEARSALS}/7")


def test_a_dry_run_and_a_command_that_may_not_ask_begin_nothing(run: Run, rehearsing: StubMemoryApi) -> None:
    wanted = ("embeddings", "rehearse", "agents/one", "--model", "m2")
    assert "900 tokens" in run(*wanted, "--dry-run").stdout
    assert run(*wanted).exit_code == 2
    assert {body["dry_run"] for body in rehearsing.bodies("POST", REHEARSALS)} == {True}


def test_a_rehearsal_that_fails_is_dropped(run: Run, rehearsing: StubMemoryApi) -> None:
    refusal = problem(409, "embedder_unavailable", "rehearsal-7 cannot be measured: no such model", "name another")
    rehearsing.on("POST", f"{REHEARSALS}/7/fill", refusal)
    result = run("embeddings", "rehearse", "agents/one", "--model", "m2", "--yes")
    assert result.exit_code == 3
    assert "no such model" in result.stderr
    assert [one.method for one in rehearsing.received][-1] == "DELETE"
