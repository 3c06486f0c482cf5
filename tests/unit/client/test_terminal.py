"""What is different on a terminal: questions, bars, colours; and completion by the shell."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem
from fixtures.store_state import EFFECT, filling, held, job, space, state
from fixtures.waiting import WAIT_SECONDS

Start = Callable[..., Any]

CONSENT = "/admin/embedding-dimension-change"
STATUS = "/v1/embeddings/status"


def test_consent_shows_what_is_discarded_and_asks(terminal: Start, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", CONSENT, Reply({"held": [held(), held("other/one", to=512)], "markers": []}))
    answer = {"id": 5, "target_dim": 768, "matches_held_change": True, "effect": EFFECT}
    memory_api.on("POST", CONSENT, Reply(answer))
    memory = terminal("embeddings", "consent", "768")
    memory.expect("agents/memory-embeddings: 1536 → 768 dimensions: 120,431 vectors are discarded")
    memory.expect("Record consent for 768 dimensions? [y/N] ")
    assert "other/one" not in memory.shown
    assert memory_api.bodies("POST", CONSENT) == []
    memory.type("y\n")
    memory.expect("consent recorded: 768 dimensions (id 5)")
    assert memory.ends() == 0


def test_anything_but_a_yes_is_a_no(terminal: Start, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", CONSENT, Reply({"held": [], "markers": []}))
    memory = terminal("embeddings", "consent", "768")
    memory.expect("[y/N] ")
    memory.type("\n")
    assert memory.ends() == 1
    assert "no consent was recorded" in memory.shown
    assert memory_api.bodies("POST", CONSENT) == []


def test_prune_names_what_goes_and_asks(terminal: Start, memory_api: StubMemoryApi) -> None:
    old = {"embedding_version": "old-8-1", "provider": "a/b", "state": "retired", "vectors": 1000, "bytes": 3_400_000}
    memory_api.on("POST", "/v1/prune-embeddings", lambda request: Reply({**request.body, "spaces": [old]}))
    memory = terminal("embeddings", "prune")
    memory.expect("old-8-1 of a/b (retired): 1,000 vectors, 3.4 MB")
    memory.expect("[y/N] ")
    memory.type("y\n")
    assert memory.ends() == 0
    assert [body["dry_run"] for body in memory_api.bodies("POST", "/v1/prune-embeddings")] == [True, False]


def test_a_fill_is_watched_as_a_bar_with_rate_and_time_left(terminal: Start, memory_api: StubMemoryApi) -> None:
    ready = threading.Event()

    def answer(_request: Received) -> Reply:
        if ready.is_set():
            return state(space("m-768-2", active=True))
        return state(filling(active=True), jobs=[job()])

    memory_api.on("GET", STATUS, answer)
    memory = terminal("embeddings", "status", "--watch")
    memory.expect("25.0 %")
    memory.expect("125/s, 6 s left")
    ready.set()
    memory.expect("100 %")
    assert memory.ends() == 0


def test_no_color_is_honoured_and_colours_are_the_default(terminal: Start, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", "/v1/embeddings/spaces", Reply({"spaces": [space(active=True)]}))
    plain, coloured = terminal("embeddings", "list", env={"NO_COLOR": "1"}), terminal("embeddings", "list")
    assert (plain.ends(), coloured.ends()) == (0, 0)
    assert "\x1b[32m" not in plain.shown
    assert "\x1b[32m" in coloured.shown


def test_a_memory_cannot_send_codes_to_a_terminal(terminal: Start, memory_api: StubMemoryApi) -> None:
    hit = {"id": "1", "text": "a\x1b]0;owned\x07\x1b[2Jb\x9b31m", "score": 1.0, "match_kind": "both\x1b[2J"}
    memory_api.on("POST", "/memory/query", Reply({"results": [hit], "diagnostics": {"semantic_status": "ok"}}))
    memory = terminal("query", "x")
    assert memory.ends() == 0
    assert "a]0;owned[2Jb31m" in memory.shown
    for code in ("\x1b]", "\x07", "\x1b[2J", "\x9b"):
        assert code not in memory.shown


def test_an_interrupt_lets_what_is_in_flight_finish_and_says_how_to_go_on(
    terminal: Start, memory_api: StubMemoryApi, tmp_path: Path
) -> None:
    second_arrived, interrupted = threading.Event(), threading.Event()

    def answer(request: Received) -> Reply:
        if request.body["text"] == "two":
            second_arrived.set()
            assert interrupted.wait(WAIT_SECONDS)
        return Reply({"id": "x", "project": "default", "embedding_status": "embedded"}, 201)

    memory_api.on("POST", "/memory/add", answer)
    file = tmp_path / "texts.txt"
    file.write_text("one\ntwo\nthree\nfour\n")
    memory = terminal("add", "--file", str(file), "--concurrency", "1")
    assert second_arrived.wait(WAIT_SECONDS)
    memory.process.send_signal(signal.SIGINT)
    interrupted.set()
    assert memory.ends() == 5
    assert "2 stored" in memory.shown
    assert "--lines 3-" in memory.shown.replace("\r\n", "")
    assert [body["text"] for body in memory_api.bodies("POST", "/memory/add")] == ["one", "two"]


def test_completion_is_installed_for_the_shell_that_is_named(terminal: Start, tmp_path: Path) -> None:
    memory = terminal("--install-completion", "zsh", env={"HOME": str(tmp_path)})
    assert memory.ends() == 0
    assert (tmp_path / ".zfunc/_memory").exists()
    assert not (tmp_path / ".bash_completions").exists()


def completed(terminal: Start, *words: str, **env: str) -> list[str]:
    line = {"_MEMORY_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    memory = terminal(env={**line, **env})
    assert memory.ends() == 0
    return list(memory.shown.split())


def test_the_shell_completes_commands_and_the_names_of_spaces(terminal: Start, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", "/v1/embeddings/spaces", Reply({"spaces": [space(), space("n-8-2"), space("m-8-3")]}))
    assert completed(terminal, "memory", "emb") == ["embeddings"]
    assert completed(terminal, "memory", "embeddings", "activate", "m") == ["m-768-1", "m-8-3"]


def test_completion_is_silent_without_a_server_or_an_allowed_one(terminal: Start, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", "/v1/embeddings/spaces", problem(401, "unauthorized", "no"))
    words = ("memory", "embeddings", "activate", "m")
    assert completed(terminal, *words) == []
    assert completed(terminal, *words, MEMORY_API="http://127.0.0.1:1") == []
