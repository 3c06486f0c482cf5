"""`memory add`: one memory, and many from a file."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem

Run = Callable[..., Result]

ADD = "/memory/add"


def stored(request: Received, status: str = "embedded") -> Reply:
    body = request.body
    return Reply(
        {
            "id": f"id-{body['text']}",
            "project": body.get("project", "default"),
            "version_no": 1,
            "embedding_version": "m-8-1" if status == "embedded" else None,
            "embedding_status": status,
            "tokens": 3,
            "cost": None,
        },
        201,
    )


def refuse(*texts: str, reply: Reply) -> Callable[[Received], Reply]:
    return lambda request: reply if request.body["text"] in texts else stored(request)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(content: str, name: str = "texts.txt") -> str:
        path = tmp_path / name
        path.write_text(content)
        return str(path)

    return write


def test_one_text_is_stored_and_its_id_alone_is_printed(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", ADD, stored)
    result = run("add", "hello", "-p", "notes", "--tag", "a", "--tag", "b", "--importance", "0.5", "--meta", "k=v=w")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "id-hello\n", "")
    assert memory_api.bodies("POST", ADD) == [
        {"text": "hello", "project": "notes", "tags": ["a", "b"], "importance": 0.5, "metadata": {"k": "v=w"}}
    ]


def test_a_memory_that_is_not_embedded_yet_is_stored_and_said_to_be_pending(
    run: Run, memory_api: StubMemoryApi
) -> None:
    memory_api.on("POST", ADD, lambda request: stored(request, "pending"))
    result = run("add", "hello")
    assert (result.exit_code, result.stdout) == (0, "id-hello\n")
    assert "pending" in result.stderr


def test_a_text_on_stdin_is_one_memory_with_all_its_lines(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", ADD, stored)
    run("add", "-", stdin="one\ntwo\n")
    assert memory_api.bodies("POST", ADD) == [{"text": "one\ntwo\n"}]


def test_a_text_that_the_server_does_not_allow_is_misuse(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", ADD, problem(400, "invalid_request", "text: too short"))
    assert run("add", "").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["text", "--file", "x"],
        ["text", "--lines", "3"],
        ["text", "--meta", "novalue"],
        ["text", "--importance", "2"],
        ["--file", "/nowhere/at/all"],
        ["--file", "x", "--lines", "z"],
    ],
)
def test_a_wrong_command_line_is_misuse_and_sends_nothing(
    run: Run, memory_api: StubMemoryApi, arguments: list[str]
) -> None:
    assert run("add", *arguments).exit_code == 2
    assert memory_api.received == []


def test_every_line_of_a_file_is_a_memory(run: Run, memory_api: StubMemoryApi, file: Callable[..., str]) -> None:
    memory_api.on("POST", ADD, stored)
    result = run("add", "--file", file("one\n\ntwo\nthree"), "--tag", "t")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "3 stored\n", "")
    sent = memory_api.bodies("POST", ADD)
    assert sorted(body["text"] for body in sent) == ["one", "three", "two"]
    assert all(body["tags"] == ["t"] for body in sent)


def test_a_json_line_says_more_than_the_options(run: Run, memory_api: StubMemoryApi, file: Callable[..., str]) -> None:
    memory_api.on("POST", ADD, stored)
    run("add", "--file", file('{"text": "one", "tags": ["own"]}', "x.jsonl"), "--tag", "t", "-p", "notes")
    assert memory_api.bodies("POST", ADD) == [{"text": "one", "tags": ["own"], "project": "notes"}]


def test_lines_come_from_stdin_too(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", ADD, stored)
    assert run("add", "--file", "-", stdin="one\ntwo\n").stdout == "2 stored\n"


def test_refused_lines_are_skipped_named_and_make_exit_code_5(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    memory_api.on("POST", ADD, refuse("bad", reply=problem(400, "invalid_input", "too strange")))
    result = run("add", "--file", file('{"text": "one"}\nnonsense\n{"text": "bad"}\n{"text": "two"}\n', "x.jsonl"))
    assert (result.exit_code, result.stdout) == (5, "2 stored\n")
    assert "line 2: not JSON" in result.stderr
    assert "line 3: too strange" in result.stderr
    assert "--lines 2-3" in result.stderr


def test_a_file_of_which_no_line_is_stored_makes_exit_code_6(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    memory_api.on("POST", ADD, problem(400, "invalid_input", "too strange"))
    assert run("add", "--file", file("one\ntwo\n")).exit_code == 6


def test_with_json_one_document_accounts_for_every_line(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    memory_api.on("POST", ADD, refuse("bad", reply=problem(400, "invalid_input", "too strange")))
    result = run("add", "--file", file("one\nbad\ntwo\n"), "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (5, "")
    assert [(answer["line"], answer["id"]) for answer in document["results"]] == [(1, "id-one"), (3, "id-two")]
    assert document["refused"] == [{"line": 2, "code": "invalid_input", "detail": "too strange"}]
    assert (document["stored"], document["remaining_lines"]) == (2, None)


def test_a_server_that_is_not_there_ends_the_run_at_once(run: Run, file: Callable[..., str]) -> None:
    result = run("add", "--file", file("one\ntwo\n"), "--server", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "no memory API at" in result.stderr
    assert "--lines 1-" in result.stderr


def test_a_run_that_is_not_allowed_ends_and_says_how_to_take_it_up(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    expired = problem(401, "unauthorized", "the token has expired")
    memory_api.on("POST", ADD, refuse("three", reply=expired))
    path = file("one\ntwo\nthree\nfour\nfive\n")
    result = run("add", "--file", path, "--concurrency", "1")
    assert (result.exit_code, result.stdout) == (5, "2 stored\n")
    assert "the token has expired" in result.stderr
    assert f"hint: take it up again with: memory add --file {path} --lines 3-\n" in result.stderr

    memory_api.on("POST", ADD, stored)
    assert run("add", "--file", path, "--lines", "3-").exit_code == 0
    assert [body["text"] for body in memory_api.bodies("POST", ADD)].count("one") == 1


def test_what_is_left_of_a_chosen_part_does_not_grow_beyond_it(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    memory_api.on("POST", ADD, problem(401, "unauthorized", "no"))
    result = run("add", "--file", file("a\nb\nc\nd\ne\n"), "--lines", "2,4", "--json", "--concurrency", "1")
    assert json.loads(result.stdout)["remaining_lines"] == "2,4"


def test_a_line_that_is_turned_away_is_sent_again_when_the_server_asks(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    turned_away = problem(503, "busy", "too many requests", Retry_After="0")
    seen: set[str] = set()

    def answer(request: Received) -> Reply:
        text = request.body["text"]
        if text in seen:
            return stored(request)
        seen.add(text)
        return turned_away

    memory_api.on("POST", ADD, answer)
    assert run("add", "--file", file("one\ntwo\n")).stdout == "2 stored\n"


def test_one_line_over_which_the_server_stumbles_does_not_stop_the_others(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    memory_api.on("POST", ADD, refuse("two", reply=problem(500, "internal", "stumbled")))
    result = run("add", "--file", file("one\ntwo\nthree\n"), "--concurrency", "1")
    assert (result.exit_code, result.stdout) == (5, "2 stored\n")
    assert "--lines 2\n" in result.stderr


def test_a_server_that_only_stumbles_is_given_up(run: Run, memory_api: StubMemoryApi, file: Callable[..., str]) -> None:
    memory_api.on("POST", ADD, problem(500, "internal", "stumbled"))
    result = run("add", "--file", file("x\n" * 500))
    assert result.exit_code == 6
    assert len(memory_api.received) < 50
    assert "--lines 1-\n" in result.stderr


def test_no_more_requests_than_allowed_are_in_flight(
    run: Run, memory_api: StubMemoryApi, file: Callable[..., str]
) -> None:
    lock = threading.Lock()
    flying: list[str] = []
    most = 0
    together = threading.Barrier(4, timeout=10)

    def answer(request: Received) -> Reply:
        nonlocal most
        with lock:
            flying.append(request.body["text"])
            most = max(most, len(flying))
        together.wait()
        with lock:
            flying.remove(request.body["text"])
        return stored(request)

    memory_api.on("POST", ADD, answer)
    content = "".join(f"{number}\n" for number in range(20))
    assert run("add", "--file", file(content), "--concurrency", "4").exit_code == 0
    assert most == 4


def test_what_is_pending_is_counted(run: Run, memory_api: StubMemoryApi, file: Callable[..., str]) -> None:
    def answer(request: Received) -> Any:
        return stored(request, "pending" if request.body["text"] == "one" else "embedded")

    memory_api.on("POST", ADD, answer)
    assert run("add", "--file", file("one\ntwo\n")).stdout == "2 stored (1 wait for the embedder)\n"
