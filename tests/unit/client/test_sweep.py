"""A sweep on the command line: what it says before it begins, in parts, what it skips, and wrong options."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem
from fixtures.store_state import DONE, ESTIMATE, PLANNED, RUNNING, STORED, filling, state

Run = Callable[..., Result]

JOBS = "/v1/jobs"
REEMBED = "/v1/reembed"
STATUS = "/v1/embeddings/status"


def estimated(request: Received) -> Reply:
    """POST /v1/reembed as it answers, dry or not."""
    begun = {**PLANNED, "estimate": None, "job": RUNNING}
    planned = {"stored": STORED, "spaces": [PLANNED]} if request.body["dry_run"] else {"spaces": [begun]}
    return Reply({"dry_run": request.body["dry_run"], "project": None, "reindex": None, **planned})


PREFLIGHT = """\
in the store: 1,000 live chunks of 340 memories
stored vectors have dimensions: 768, 1536
m-768-2 of agents/m:
  model m, 768 dimensions
  remote: texts go to its vendor
  500 texts to embed, 100 chunks copied, 400 kept, 1 too large, 3 tried again
  about 15,000 tokens, 0.0003 USD, 1 min 30 s
what cannot be undone:
  """


@pytest.mark.parametrize(
    ("command", "undone"),
    [
        (["reembed"], "what is embedded is paid for, whatever comes after it"),
        (["rebuild", "--skip-current-space"], "what is embedded is paid for, whatever comes after it"),
        (["rebuild", "--yes"], "the old vectors go once all new ones are there; a cancel leaves them"),
        (["rebuild", "--yes", "--max-rows", "9"], "a vector is gone once its new one is stored"),
    ],
)
def test_a_sweep_says_on_stderr_what_it_takes_and_what_cannot_be_undone(
    run: Run, memory_api: StubMemoryApi, command: list[str], undone: str
) -> None:
    memory_api.on("POST", REEMBED, estimated)
    for more in ([], ["--dry-run"]):
        result = run("embeddings", *command, *more)
        assert result.stderr.startswith(PREFLIGHT + undone), result.stderr
        assert max(len(line) for line in result.stderr.splitlines()) <= 80
    result = run("embeddings", *command, "--json")
    assert json.loads(result.stderr)["preflight"]["stored"] == STORED
    assert json.loads(result.stdout)["spaces"][0]["job"]["id"] == 7


def test_a_local_model_and_an_embedder_in_trouble_are_said_before_a_sweep(run: Run, memory_api: StubMemoryApi) -> None:
    free = {**ESTIMATE, "pending": 2, "estimated_cost": None}
    space = {**PLANNED, "remote": False, "last_error": "CredentialRefused: 401", "estimate": free}
    memory_api.on("POST", REEMBED, Reply({"dry_run": True, "stored": {**STORED, "dimensions": []}, "spaces": [space]}))
    shown = run("embeddings", "reembed", "--dry-run", "--project", "notes").stderr
    assert "in project notes: 1,000 live chunks" in shown
    assert "dimensions: none yet\n" in shown
    assert "local: no text leaves" in shown
    assert "3 tried again, 2 pending\n  about 15,000 tokens, no vendor to pay, 1 min 30 s" in shown
    assert "! its embedder gives no vectors now: CredentialRefused: 401" in shown


def test_a_sweep_in_parts_is_asked_for_as_the_options_say(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", REEMBED, estimated)
    options = ("--namespace", "notes", "--max-rows", "9", "--sleep-ms", "50", "--skip-current-space")
    for command in ("reembed", "rebuild"):
        assert run("embeddings", command, *options).exit_code == 0
    sent = {"project": "notes", "max_rows": 9, "sleep_ms": 50}
    assert memory_api.bodies("POST", REEMBED) == [{**sent, "dry_run": dry} for dry in (True, False)] * 2


@pytest.mark.parametrize("command", ["reembed", "rebuild"])
@pytest.mark.parametrize(
    "wrong",
    [*(("--max-rows", wrong) for wrong in ("0", "-3", "x")), ("--sleep-ms", "-1"), ("--sleep-ms", "1e9")],
)
def test_a_wrong_option_of_a_sweep_sends_nothing(
    run: Run, memory_api: StubMemoryApi, command: str, wrong: tuple[str, str]
) -> None:
    result = run("embeddings", command, *wrong)
    assert (result.exit_code, memory_api.received) == (2, [])
    assert wrong[0] in result.stderr
    assert json.loads(run("embeddings", command, *wrong, "--json").stderr)["code"] == "usage"


def test_a_sweep_of_an_unknown_project_or_without_an_embedder_begins_nothing(
    run: Run, memory_api: StubMemoryApi
) -> None:
    memory_api.on("POST", REEMBED, problem(404, "not_found", "there is no project nope", "GET /v1/stats lists those"))
    result = run("embeddings", "reembed", "--project", "nope")
    assert (result.exit_code, len(memory_api.received)) == (1, 1)
    assert "no project nope\nhint: `memory stats` lists those" in result.stderr
    memory_api.on("POST", REEMBED, problem(409, "no_embedder", "there is no space to fill", "apply a Provider"))
    for command in (["reembed"], ["reembed", "--dry-run"], ["rebuild", "--yes"]):
        assert run("embeddings", *command).exit_code == 4


def test_a_sweep_that_waited_names_what_it_skipped(run: Run, memory_api: StubMemoryApi) -> None:
    chunk = {"memory": "0f3c1d2e", "project": "notes", "chunk": 0, "reason": "longer than\x1b 65536 bytes"}
    skipped = [{**chunk, "id": "4.1", "quarantined": True}, {**chunk, "id": "2.1", "quarantined": False}]
    memory_api.on("POST", REEMBED, estimated)
    memory_api.on("GET", STATUS, state(filling()))
    memory_api.on("GET", f"{JOBS}/7", Reply({**DONE, "quarantined": 5}))
    memory_api.on("GET", f"{JOBS}/7/skipped", Reply({"skipped": skipped, "next_after": None}))
    result = run("embeddings", "reembed", "--wait")
    assert result.exit_code == 5
    assert "! 4.1 of memory 0f3c1d2e is skipped, has no vector: longer than 65536 bytes\n" in result.stderr
    assert "! 2.1 of memory 0f3c1d2e is skipped, keeps its vector: longer than 65536 bytes\n" in result.stderr
    assert "and 3 more: memory embeddings quarantine --job 7\n" in result.stderr
    listed = run("embeddings", "quarantine", "--job", "7")
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [row[:5] for row in rows[1:]] == [
        ["4.1", "0f3c1d2e", "0", "notes", "none"],
        ["2.1", "0f3c1d2e", "0", "notes", "kept"],
    ]
    assert json.loads(run("embeddings", "quarantine", "--job", "7", "--json").stdout)["skipped"] == skipped
    assert run("embeddings", "quarantine", "--job", "7", "--retry").exit_code == 2


def test_a_preflight_that_takes_too_long_keeps_no_sweep_from_beginning(run: Run, memory_api: StubMemoryApi) -> None:
    def slow(request: Received) -> Reply:
        if request.body["dry_run"]:
            raise ConnectionAbortedError
        return estimated(request)

    memory_api.on("POST", REEMBED, slow)
    result = run("embeddings", "reembed")
    assert (result.exit_code, "could not be told" in result.stderr) == (0, True)
    memory_api.on("POST", REEMBED, problem(500, "internal", "no"))
    assert run("embeddings", "reembed").exit_code == 1
    assert [body["dry_run"] for body in memory_api.bodies("POST", REEMBED)] == [True, False, True]
