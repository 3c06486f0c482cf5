"""How the command line calls a server, and what it says when that fails."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem

Run = Callable[..., Result]

SPACES = "/v1/embeddings/spaces"


def test_the_token_of_the_environment_is_sent_and_never_shown(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, problem(403, "forbidden", "you may not look", "ask for the right"))
    result = run("embeddings", "list", env={"MEMORY_TOKEN": "s3cret"})
    assert memory_api.received[0].headers["authorization"] == "Bearer s3cret"
    assert result.exit_code == 1
    assert "s3cret" not in result.output
    assert result.stderr == "error: you may not look\nhint: ask for the right\n"


def test_the_token_of_a_file_goes_before_that_of_the_environment(
    run: Run, memory_api: StubMemoryApi, tmp_path: Path
) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": []}))
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert run("embeddings", "list", "--token-file", str(file), env={"MEMORY_TOKEN": "other"}).exit_code == 0
    assert memory_api.received[0].headers["authorization"] == "Bearer from-file"


@pytest.mark.parametrize("content", [b"", b"two words", "gehe\u00edm".encode(), b"\xff"])
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(
    run: Run, memory_api: StubMemoryApi, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    result = run("embeddings", "list", "--token-file", str(file))
    assert result.exit_code == 2
    assert "two words" not in result.output
    assert memory_api.received == []


def test_without_a_token_none_is_sent_and_a_401_says_where_to_put_it(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, problem(401, "unauthorized", "no valid token"))
    result = run("embeddings", "list")
    assert "authorization" not in memory_api.received[0].headers
    assert "MEMORY_TOKEN" in result.stderr


def test_options_may_stand_before_the_command_and_after_it(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": []}))
    nowhere = {"MEMORY_API": "http://127.0.0.1:1"}
    assert json.loads(run("--server", memory_api.url, "--json", "embeddings", "list", env=nowhere).stdout) == {
        "spaces": []
    }
    assert json.loads(run("embeddings", "list", "--json", "--server", memory_api.url, env=nowhere).stdout) == {
        "spaces": []
    }


def test_a_server_that_is_not_there_is_named_with_a_way_to_start_one(run: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        result = run("status", "--server", url)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: no memory API at {url}: Connection refused\n")
    assert "make run" in result.stderr


@pytest.mark.parametrize(
    "url", ["ftp://host", "nonsense", "http://", "http://host:99999", "http://[", "http://user:pa55@host"]
)
def test_an_address_that_cannot_be_called_is_misuse_and_its_password_is_not_shown(run: Run, url: str) -> None:
    result = run("status", "--server", url)
    assert result.exit_code == 2
    assert "pa55" not in result.output


def test_a_proxy_does_not_stand_between_us_and_this_machine(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": []}))
    assert run("embeddings", "list", env={"HTTP_PROXY": "http://127.0.0.1:1"}).exit_code == 0


def test_a_read_is_repeated_as_long_as_the_server_asks(run: Run, memory_api: StubMemoryApi) -> None:
    busy = problem(503, "busy", "too many requests", Retry_After="0")
    memory_api.on("GET", SPACES, [busy, busy, Reply({"spaces": []})])
    assert run("embeddings", "list").exit_code == 0
    assert len(memory_api.received) == 3


def test_a_deed_is_not_repeated(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", "/v1/embeddings/deactivate", problem(503, "busy", "too many requests", Retry_After="0"))
    assert run("embeddings", "deactivate").exit_code == 1
    assert len(memory_api.received) == 1


def test_with_json_an_error_is_the_servers_own_document_on_stderr(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, problem(403, "forbidden", "no", "ask"))
    result = run("embeddings", "list", "--json")
    assert result.stdout == ""
    assert json.loads(result.stderr) == {
        "type": "about:blank",
        "title": "forbidden",
        "status": 403,
        "detail": "no",
        "code": "forbidden",
        "hint": "ask",
    }


def test_with_json_an_error_of_our_own_has_the_same_form(run: Run) -> None:
    document = json.loads(run("status", "--server", "ftp://host", "--json").stderr)
    assert (document["code"], "detail" in document, "hint" in document) == ("usage", True, True)


def test_another_server_on_that_port_is_recognised(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply(b"<html>", content_type="text/html; charset=utf-8"))
    result = run("embeddings", "list")
    assert result.exit_code == 1
    assert "text/html: that is not a memory API" in result.stderr


def test_an_answer_of_another_age_is_named_and_not_a_traceback(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [{"embedding_version": 7}]}))
    result = run("embeddings", "list")
    assert result.exit_code == 1
    assert "spaces.0.embedding_version" in result.stderr


def test_a_fault_of_the_server_is_shown_with_the_number_of_the_request(run: Run, memory_api: StubMemoryApi) -> None:
    fault = problem(500, "internal", "the request could not be answered", "see the server's log")
    fault.body["request_id"] = "abc123"
    memory_api.on("GET", SPACES, fault)
    assert "hint: see the server's log; request abc123" in run("embeddings", "list").stderr


def test_what_a_server_says_cannot_steer_the_terminal(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, problem(409, "conflict", "\x1b]0;owned\x07gone", "\x9b2J"))
    assert run("embeddings", "list").stderr == "error: ]0;ownedgone\nhint: 2J\n"


def test_an_id_cannot_lead_to_another_route(run: Run, memory_api: StubMemoryApi) -> None:
    def answer(request: Received) -> Reply:
        return problem(404, "not_found", request.path)

    memory_api.on("DELETE", "/memory/..%2Fv1%3Fx", answer)
    result = run("delete", "../v1?x")
    assert result.stderr.startswith("error: /memory/..%2Fv1%3Fx")
