"""Refused chunks on the command line: listed, and tried once more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi
from fixtures.store_state import filling, space

Run = Callable[..., Result]

QUARANTINE = "/v1/embeddings/quarantine"
RETRY = f"{QUARANTINE}/retry"
SPACES = "/v1/embeddings/spaces"


def refused(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{number}.3",
        "memory": f"0f3c1d2e-0000-4000-8000-{number:012}",
        "project": "notes",
        "version_no": 1,
        "chunk": 0,
        "embedding_version": "m-768-1",
        "provider": "agents/memory-embeddings",
        "reason": "the input is\tempty\x1b[2J",
        "attempts": 2,
        "since": "2026-01-31T12:00:00+00:00",
        "retry_at": None,
        **more,
    }


def test_refused_chunks_are_listed_with_memory_and_reason(run: Run, memory_api: StubMemoryApi) -> None:
    document = {"quarantined": [refused(5), refused(4, retry_at="2026-01-31T12:01:00+00:00")], "next_before": "4.3"}
    memory_api.on("GET", QUARANTINE, Reply(document))
    memory_api.on("GET", SPACES, Reply({"spaces": [space(), space("m-8-2", provider="a/b")]}))
    result = run("embeddings", "quarantine", "--space", "m-768-1", "-n", "2")
    assert memory_api.received[-1].params == {"embedding_version": "m-768-1", "limit": "2"}
    first, second = [line.split("\t") for line in result.stdout.splitlines()[1:]]
    assert first[:2] == ["5.3", "0f3c1d2e-0000-4000-8000-000000000005"]
    assert (first[4], first[5], first[7]) == ("the input is empty[2J", "2", "on request")
    assert second[7].startswith("2026-")
    assert "--before 4.3" in result.stderr
    assert json.loads(run("embeddings", "quarantine", "--json").stdout) == document


def test_named_chunks_are_tried_once_more(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", RETRY, lambda request: Reply({"retried": len(request.body["ids"])}))
    result = run("embeddings", "quarantine", "--retry", "4.3", "5.3")
    assert (result.exit_code, result.stdout) == (0, "2 refused chunks are tried once more\n")
    assert memory_api.bodies("POST", RETRY) == [{"ids": ["4.3", "5.3"]}]
    assert run("embeddings", "quarantine", "4.3").exit_code == 2


def test_all_chunks_are_tried_once_more_page_by_page(run: Run, memory_api: StubMemoryApi) -> None:
    def page(request: Received) -> Reply:
        rest = "before" not in request.params
        return Reply({"quarantined": [refused(5 if rest else 4)], "next_before": "5.3" if rest else None})

    memory_api.on("GET", QUARANTINE, page)
    memory_api.on("POST", RETRY, lambda request: Reply({"retried": len(request.body["ids"])}))
    assert json.loads(run("embeddings", "quarantine", "--retry", "--json").stdout) == {"retried": 2}
    assert memory_api.bodies("POST", RETRY) == [{"ids": ["5.3", "4.3"]}]


def test_a_provider_with_several_spaces_asks_for_the_name_of_one(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [space(), filling()]}))
    result = run("embeddings", "quarantine", "--space", "memory-embeddings")
    assert result.exit_code == 2
    assert "m-768-1, m-768-2" in result.stderr
