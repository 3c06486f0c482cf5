"""Finding, reading, changing and deleting memories."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem

Run = Callable[..., Result]

MEMORY: dict[str, Any] = {
    "id": "0f3c1d2e9",
    "project": "notes",
    "version_no": 2,
    "current": True,
    "tombstone": False,
    "purged": False,
    "text": "first line\nsecond \x1b[31mline",
    "summary": None,
    "type": "decision",
    "tags": ["a", "b"],
    "source": None,
    "importance": 0.5,
    "confidence": None,
    "metadata": {"k": 1},
    "embedding_version": "m-8-1",
    "embedding_status": "embedded",
    "created_by": "alice",
    "created_at": "2026-01-31T12:00:00+00:00",
}


def found(status: str = "ok", **diagnostics: Any) -> Reply:
    hit = {
        "id": "0f3c1d2e9",
        "text": "first\tline\nsecond\x1b[2J",
        "score": 0.0327868,
        "match_kind": "both",
    }
    return Reply({"results": [hit], "diagnostics": {"semantic_status": status, "reason": None, **diagnostics}})


def explained() -> Reply:
    why = {
        "channels": {
            "fulltext": {"rank": 1, "score": 0.5, "normalised": 1.0, "contribution": 0.43, "matched": "all"},
            "semantic": {"rank": 12, "score": 0.612, "normalised": 0.25, "contribution": 0.0975, "matched": "vector"},
        },
        "agreement": 0.05,
    }
    hit = {"id": "0f3c1d2e9", "text": "one", "score": 0.5775, "match_kind": "both", "diagnostics": why}
    weights = {
        "fulltext": {"weight": 0.43, "usual": 0.43, "knows": 1.0, "best": 0.5, "weakest": 0.1, "span": 0.3},
        "semantic": {"weight": 0.39, "usual": 0.52, "knows": 0.75, "best": 0.9, "weakest": 0.5, "span": 0.3},
    }
    explanation = {"channels": weights, "weights_given": False}
    return Reply({"results": [hit], "diagnostics": {"semantic_status": "ok", "explanation": explanation}})


def test_explain_shows_a_bar_for_each_part_of_a_score_within_80_columns(
    terminal: Callable[..., Any], memory_api: StubMemoryApi
) -> None:
    memory_api.on("POST", "/memory/query", explained())
    memory = terminal("query", "line", "--explain", columns=80, env={"NO_COLOR": "1"})
    assert memory.ends() == 0
    lines = memory.shown.splitlines()
    assert memory_api.bodies("POST", "/memory/query")[0]["explain"] is True
    assert "meaning    weighs 0.3900  (0.52 x 0.75 known)" in lines
    assert f"   words     0.4300 {'█' * 17}{'·' * 23} rank 1, 0.500" in lines
    assert f"   agreement 0.0500 {'█' * 2}{'·' * 38}" in lines
    assert all(len(line) <= 80 for line in lines)


def test_in_a_pipe_explain_gives_the_parts_before_the_text(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", explained())
    assert run("query", "line", "--explain").stdout == "0f3c1d2e9\t0.5775\tboth\t0.4300\t0.0975\t0.0500\tone\n"


def test_in_a_pipe_every_result_is_one_line_of_four_fields(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", found())
    result = run("query", "line")
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "0f3c1d2e9\t0.0328\tboth\tfirst line second[2J\n",
        "",
    )
    assert memory_api.bodies("POST", "/memory/query") == [{"query": "line", "k": 10}]


def test_filters_are_sent_with_times_that_have_a_zone(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", found())
    run("query", "line", "-k", "3", "-p", "notes", "--tag", "a", "--type", "t", "--after", "2026-01-31T12:00:00Z")
    (sent,) = memory_api.bodies("POST", "/memory/query")
    after = datetime.fromisoformat(sent["filters"].pop("created_after"))
    assert after == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert sent == {"query": "line", "k": 3, "project": "notes", "filters": {"type": "t", "tags": ["a"]}}


@pytest.mark.parametrize("arguments", [["-k", "0"], ["-k", "201"], ["--after", "soon"]])
def test_a_query_that_cannot_be_is_misuse(run: Run, memory_api: StubMemoryApi, arguments: list[str]) -> None:
    assert run("query", "line", *arguments).exit_code == 2
    assert memory_api.received == []


@pytest.mark.parametrize(
    ("status", "more", "said"),
    [
        ("filling", {"coverage": 0.4304}, "partial: 43.0 % of the chunks have a vector"),
        ("no_active_space", {"reason": "provider_deleted"}, "no space is active (provider_deleted)"),
        ("embedder_unavailable", {}, "the embedder did not answer"),
        ("disabled", {}, "semantic search is off"),
        ("ok", {"reason": "search_timeout"}, "search_timeout"),
        ("something_new", {}, "something_new"),
    ],
)
def test_an_answer_that_is_not_the_full_one_says_so_on_stderr(
    run: Run, memory_api: StubMemoryApi, status: str, more: dict[str, Any], said: str
) -> None:
    memory_api.on("POST", "/memory/query", found(status, **more))
    result = run("query", "line")
    assert result.exit_code == 0
    assert said in result.stderr
    assert said not in result.stdout


def test_a_query_is_read_from_stdin(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", found())
    assert run("query", "-", stdin="when is staging rebuilt?\n").exit_code == 0
    assert memory_api.bodies("POST", "/memory/query")[0]["query"] == "when is staging rebuilt?"


def test_nothing_found_is_not_a_failure(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", Reply({"results": [], "diagnostics": {"semantic_status": "ok"}}))
    result = run("query", "line")
    assert (result.exit_code, result.stdout) == (0, "")


def test_with_json_the_answer_is_the_servers_own(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", found("filling", coverage=0.5))
    result = run("query", "line", "--json")
    assert json.loads(result.stdout) == found("filling", coverage=0.5).body
    assert result.stderr == ""


def test_a_memory_is_shown_with_what_is_known_and_without_codes_for_the_terminal(
    run: Run, memory_api: StubMemoryApi
) -> None:
    memory_api.on("GET", "/memory/0f3c1d2e9", Reply(MEMORY))
    result = run("show", "0f3c1d2e9")
    assert result.exit_code == 0
    assert "type\tdecision\n" in result.stdout
    assert "summary" not in result.stdout
    assert result.stdout.endswith("\n\nfirst line\nsecond [31mline\n")


def test_a_memory_that_is_not_there_is_a_failure_with_the_servers_reason(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", "/memory/x", problem(404, "not_found", "there is no memory x", "it may be forgotten"))
    result = run("show", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: there is no memory x\nhint: it may be forgotten\n"


def test_a_history_shows_each_version_and_how_to_see_earlier_ones(run: Run, memory_api: StubMemoryApi) -> None:
    gone = {**MEMORY, "version_no": 3, "text": None, "tombstone": True}
    erased = {**MEMORY, "version_no": 1, "text": None, "purged": True}
    memory_api.on(
        "GET",
        "/memory/0f3c1d2e9/history",
        Reply({"versions": [gone, MEMORY, erased], "next_before_version": 1}),
    )
    result = run("history", "0f3c1d2e9", "-n", "3", "--before", "9")
    assert memory_api.received[0].params == {"limit": "3", "before_version": "9"}
    header, *versions = result.stdout.splitlines()
    assert header == "VERSION\tWHEN\tBY\tTEXT"
    assert [line.split("\t")[0] for line in versions] == ["3", "2", "1"]
    assert [line.split("\t")[3] for line in versions] == ["(deleted)", "first line second [31mline", "(erased)"]
    assert "--before 1" in result.stderr


def test_an_edit_sends_only_what_changes(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("PATCH", "/memory/0f3c1d2e9", Reply({**MEMORY, "version_no": 3}))
    result = run("edit", "0f3c1d2e9", "new text", "--tag", "c")
    assert (result.exit_code, result.stdout) == (0, "0f3c1d2e9 is at version 3 now\n")
    assert memory_api.bodies("PATCH", "/memory/0f3c1d2e9") == [{"text": "new text", "tags": ["c"]}]


def test_an_edit_of_nothing_is_misuse(run: Run) -> None:
    assert run("edit", "0f3c1d2e9").exit_code == 2


def test_a_deletion_is_confirmed_with_json_too(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("DELETE", "/memory/0f3c1d2e9", Reply(status=204))
    assert run("delete", "0f3c1d2e9").stdout == "0f3c1d2e9 deleted\n"
    assert json.loads(run("delete", "0f3c1d2e9", "--json").stdout) == {
        "status": "deleted",
        "id": "0f3c1d2e9",
    }
    assert memory_api.received[0].params == {}


def test_a_purge_needs_a_yes_where_nobody_can_be_asked(run: Run, memory_api: StubMemoryApi) -> None:
    erased = {
        "status": "purged",
        "id": "0f3c1d2e9",
        "erased": {"versions": 2, "chunks": 2, "vectors": 4},
    }
    memory_api.on("DELETE", "/memory/0f3c1d2e9", Reply(erased))
    refused = run("delete", "0f3c1d2e9", "--purge", stdin="y\n")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert memory_api.received == []
    assert json.loads(run("delete", "0f3c1d2e9", "--purge", "--yes", "--json").stdout) == erased
    assert memory_api.received[0].params == {"purge": "true"}


OTHERS = ("0f3c9999-0000-4000-8000-000000000002", "77aa0000-0000-4000-8000-000000000003")


def listed(*pages: list[str]) -> Callable[[Received], Reply]:
    """GET /v1/memories: the page before 1 is the first, the page before 1 less than that the next."""

    def answer(request: Received) -> Reply:
        index = len(pages) - int(request.params.get("before", len(pages)))
        memories = [{**MEMORY, "id": each, "tags": ["a"] if index else []} for each in pages[index]]
        return Reply({"memories": memories, "next_before": len(pages) - index - 1 or None})

    return answer


@pytest.mark.parametrize("command", ["show", "history", "edit", "delete"])
def test_the_beginning_of_an_id_will_do_where_no_other_begins_so(
    run: Run, memory_api: StubMemoryApi, command: str
) -> None:
    def beginning(request: Received) -> Reply:
        ids = [each for each in (MEMORY["id"], *OTHERS) if each.startswith(request.params["id"])]
        return Reply({"memories": [{**MEMORY, "id": each} for each in ids], "next_before": None})

    memory_api.on("GET", "/v1/memories", beginning)
    memory_api.on("GET", f"/memory/{OTHERS[1]}", Reply(MEMORY))
    memory_api.on("GET", f"/memory/{OTHERS[1]}/history", Reply({"versions": []}))
    memory_api.on("PATCH", f"/memory/{OTHERS[1]}", Reply(MEMORY))
    memory_api.on("DELETE", f"/memory/{OTHERS[1]}", Reply(status=204))
    more = ("new text",) if command == "edit" else ()
    assert run(command, "77AA", *more).exit_code == 0
    ambiguous = run(command, "0f3c", *more)
    assert ambiguous.exit_code == 1
    assert f"several ids begin with 0f3c\nhint: {MEMORY['id']}, {OTHERS[0]}" in ambiguous.stderr
    assert "memory list" in run(command, "beef", *more).stderr


def test_memories_are_listed_newest_first_with_the_way_to_earlier_ones(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", "/v1/memories", listed([MEMORY["id"]], [OTHERS[0]]))
    result = run("list", "--project", "notes", "-n", "1")
    assert memory_api.received[0].params == {"project": "notes", "limit": "1"}
    header, line = result.stdout.splitlines()
    assert header == "ID\tPROJECT\tTYPE\tCREATED\tTEXT"
    assert line.split("\t")[::2] == [MEMORY["id"], "decision", "first line second [31mline"]
    assert "--before 1" in result.stderr


def test_an_export_holds_every_memory_as_add_takes_it(run: Run, memory_api: StubMemoryApi, tmp_path: Path) -> None:
    memory_api.on("GET", "/v1/memories", listed([MEMORY["id"]], list(OTHERS)))
    file = tmp_path / "out.jsonl"
    assert run("export", "-o", str(file)).exit_code == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    first = {name: MEMORY[name] for name in ("text", "project", "type", "importance", "metadata")}
    assert lines == [first, {**first, "tags": ["a"]}, {**first, "tags": ["a"]}]
    assert run("export", "-o", str(file)).exit_code == 2
    memory_api.on("POST", "/memory/add", Reply({"id": "x", "project": "notes", "embedding_status": "embedded"}, 201))
    assert run("add", "--file", str(file)).exit_code == 0
    assert sorted(map(str, memory_api.bodies("POST", "/memory/add"))) == sorted(map(str, lines))
    whole = [json.loads(line)["id"] for line in run("export", "--json").stdout.splitlines()]
    assert whole == [MEMORY["id"], *OTHERS]


def test_a_query_asks_for_the_shape_of_its_answer(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", found(cut={"characters": 9_000, "fulltext": 2_000, "semantic": 900}))
    result = run("query", "line", "--min-score", "0.2", "--chunks", "--context", "1", "--all")
    shape = {"min_score": 0.2, "granularity": "chunk", "context": 1, "fold": False}
    assert memory_api.bodies("POST", "/memory/query") == [{"query": "line", "k": 10, **shape}]
    assert "of 9,000 characters of the question the first were used: 2,000 for words, 900 for meaning" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["--rerank", "agents/reranker"], {"provider": "agents/reranker"}),
        (["--rerank", "agents/reranker", "--rerank-top", "20"], {"provider": "agents/reranker", "top": 20}),
        (["--rerank", "active"], {}),
        (["--rerank-top", "5"], {"top": 5}),
        (["--rerank", "off"], {"top": 0}),
    ],
)
def test_a_query_says_who_re_ranks_it(
    run: Run, memory_api: StubMemoryApi, arguments: list[str], sent: dict[str, Any]
) -> None:
    memory_api.on("POST", "/memory/query", found())
    assert run("query", "line", *arguments).exit_code == 0
    assert memory_api.bodies("POST", "/memory/query") == [{"query": "line", "k": 10, "rerank": sent}]


@pytest.mark.parametrize("arguments", [["--rerank-top", "0"], ["--rerank-top", "101"], ["--rerank", "off"]])
def test_re_ranking_that_cannot_be_is_misuse(run: Run, memory_api: StubMemoryApi, arguments: list[str]) -> None:
    more = ["--rerank-top", "5"] if arguments[-1] == "off" else []
    assert run("query", "line", *arguments, *more).exit_code == 2
    assert memory_api.received == []


def re_ranked(status: str = "ok", reason: str | None = None, least: float | None = 0.25) -> dict[str, Any]:
    """The answer of `explained`, twice: the first result re-ranked, the second after it."""
    answer = explained().body
    first = answer["results"][0]
    first["diagnostics"]["fused_score"] = first["score"]
    second = {**first, "id": "1f3c1d2e9", "score": 0.1444, "diagnostics": {**first["diagnostics"], "rerank": None}}
    if status == "ok":
        match = {"rank": 1, "score": 0.25, "relevance": 0.25, "rank_before": 3}
        first = {**first, "score": 0.25, "diagnostics": {**first["diagnostics"], "rerank": match}}
    rerank = {"provider": "agents/reranker", "model": "rerank-\x1b[2Jv3.5", "status": status, "reason": reason}
    diagnostics = {**answer["diagnostics"], "rerank": {**rerank, "texts": 1, "least_relevance": least}}
    return {"results": [first, second], "diagnostics": diagnostics}


def test_explain_shows_what_re_ranking_made_of_a_score_within_80_columns(
    terminal: Callable[..., Any], memory_api: StubMemoryApi
) -> None:
    memory_api.on("POST", "/memory/query", Reply(re_ranked()))
    memory = terminal("query", "line", "--explain", columns=80, env={"NO_COLOR": "1"})
    assert memory.ends() == 0
    lines = memory.shown.splitlines()
    assert "re-ranked  the first 1: agents/reranker, rerank-[2Jv3.5" in lines
    assert f"   re-ranked 0.2500 {'█' * 10}{'·' * 30} rank 1, 3 before" in lines
    assert f"   follows   0.1444 {'█' * 6}{'·' * 34} 0.578 x 0.250" in lines
    assert all(len(line) <= 80 for line in lines)


def test_an_answer_that_was_not_re_ranked_says_why_on_stderr(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/memory/query", Reply(re_ranked("unavailable", "circuit_open", None)))
    result = run("query", "line")
    assert result.exit_code == 0
    assert "not re-ranked by agents/reranker (circuit_open): the order before" in result.stderr
    assert len(result.stdout.splitlines()) == 2
