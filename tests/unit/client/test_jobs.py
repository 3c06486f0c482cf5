"""Jobs on the command line: listed, steered, begun, waited for."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Received, Reply, StubMemoryApi, problem
from fixtures.store_state import DONE, ESTIMATE, PLANNED, RUNNING, STORED, filling, job, space, state

Run = Callable[..., Result]

JOBS = "/v1/jobs"
REEMBED = "/v1/reembed"
REINDEX = "/v1/reindex"
SPACES = "/v1/embeddings/spaces"
STATUS = "/v1/embeddings/status"

WAITS = {**RUNNING, "state": "paused", "paused_for": "budget", "message": "100 of 100 tokens of this job"}


def begun(*jobs: dict[str, Any] | None, reindex: dict[str, Any] | None = None, **more: Any) -> Reply:
    """POST /v1/reembed: one space for each job."""
    spaces = [
        {"embedding_version": "m-768-2", "provider": "agents/m", "estimate": None, "job": one, "retried": 0}
        for one in jobs
    ]
    return Reply({"dry_run": False, "project": None, "spaces": spaces, "reindex": reindex, **more})


def estimated(request: Received) -> Reply:
    """POST /v1/reembed and /v1/reindex as they answer, dry or not."""
    if not request.body.get("dry_run"):
        return begun(RUNNING)
    return Reply({"dry_run": True, "project": None, "stored": STORED, "spaces": [PLANNED], "reindex": None})


def test_jobs_are_listed_with_what_is_to_be_done_about_paused_ones(run: Run, memory_api: StubMemoryApi) -> None:
    reindexing = job(None, id=9, kind="reindex", state="paused", paused_for="user", project="notes")
    document = {"jobs": [reindexing, WAITS, DONE], "next_before": 7}
    memory_api.on("GET", JOBS, Reply(document))
    result = run("embeddings", "jobs", "--limit", "3")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert rows[0][:6] == ["ID", "KIND", "SPACE", "PROJECT", "STATE", "DONE"]
    assert rows[1][:5] == ["9", "reindex", "all", "notes", "paused"]
    assert rows[3][4:11] == ["done", "1,000", "1,000", "–", "1,234", "0.02 USD", "0"]
    assert "hint: memory embeddings resume 9" in result.stderr
    assert "job 7 of m-768-2 is paused: 100 of 100 tokens of this job" in result.stderr
    assert "hint: raise spec.embedding.budget" in result.stderr
    assert "--before 7" in result.stderr
    assert memory_api.received[0].params == {"limit": "3"}
    assert json.loads(run("embeddings", "jobs", "--json").stdout) == document


@pytest.mark.parametrize(("verb", "then"), [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")])
def test_a_job_is_steered_by_its_number(run: Run, memory_api: StubMemoryApi, verb: str, then: str) -> None:
    memory_api.on("POST", f"{JOBS}/7/{verb}", Reply({**RUNNING, "state": then}))
    result = run("embeddings", verb, "7")
    assert result.exit_code == 0
    assert f"job 7 of m-768-2 is {then}: 250 of 1,000" in result.stdout
    assert run("embeddings", verb, "seven").exit_code == 2


@pytest.mark.parametrize(("code", "exit_code"), [("budget_reached", 8), ("job_ended", 1)])
def test_a_refused_resume_says_why(run: Run, memory_api: StubMemoryApi, code: str, exit_code: int) -> None:
    memory_api.on("POST", f"{JOBS}/7/resume", problem(409, code, "no", "raise the budget"))
    result = run("embeddings", "resume", "7")
    assert result.exit_code == exit_code
    assert "hint: " in result.stderr


def test_a_reembed_begins_and_says_how_to_watch(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", REEMBED, begun(RUNNING, None))
    result = run("embeddings", "reembed", "--project", "notes")
    assert result.exit_code == 0
    assert memory_api.bodies("POST", REEMBED) == [{"project": "notes", "dry_run": dry} for dry in (True, False)]
    assert "m-768-2: nothing is missing\n" in result.stdout
    assert "job 7, reembed of m-768-2: running, 250 of 1,000, 125/s, 6 s left, 1,234 tokens, 0.02 USD" in result.stdout
    assert "memory embeddings status --watch" in result.stderr


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("m-768-2", {"embedding_version": "m-768-2"}),
        ("agents/memory-embeddings", {"provider": "agents/memory-embeddings"}),
        ("memory-embeddings", {"provider": "agents/memory-embeddings"}),
    ],
)
@pytest.mark.parametrize("option", ["--space", "--backend"])
def test_a_space_is_named_as_people_name_it(
    run: Run, memory_api: StubMemoryApi, option: str, name: str, sent: dict[str, str]
) -> None:
    memory_api.on("GET", SPACES, Reply({"spaces": [space(), filling()]}))
    memory_api.on("POST", REINDEX, begun(RUNNING))
    assert run("embeddings", "reindex", option, name).exit_code == 0
    assert memory_api.bodies("POST", REINDEX) == [{**sent, "dry_run": dry} for dry in (True, False)]
    unknown = run("embeddings", "reindex", option, "nope")
    assert unknown.exit_code == 1
    assert "spaces: m-768-1, m-768-2" in unknown.stderr


@pytest.mark.parametrize("verb", ["reembed", "rebuild"])
def test_a_dry_run_shows_what_it_takes(run: Run, memory_api: StubMemoryApi, verb: str) -> None:
    memory_api.on("POST", REEMBED, estimated)
    result = run("embeddings", verb, "--dry-run")
    assert result.stdout.splitlines()[1].split("\t") == [
        *["m-768-2", "agents/m", "1,000", "400", "100", "500", "15,000", "0.0003 USD", "1 min 30 s", "1", "3"]
    ]
    assert [body["dry_run"] for body in memory_api.bodies("POST", REEMBED)] == [True]
    assert json.loads(run("embeddings", verb, "--dry-run", "--json").stdout)["spaces"][0]["estimate"] == ESTIMATE


def test_a_rebuild_is_not_begun_where_nobody_can_be_asked(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", REEMBED, estimated)
    refused = run("embeddings", "rebuild")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert run("embeddings", "rebuild", "--yes").exit_code == 0
    bodies = memory_api.bodies("POST", REEMBED)
    assert bodies == [{"replace": True, "dry_run": dry} for dry in (True, True, False)]


def test_a_rebuild_asks_with_the_estimate(terminal: Callable[..., Any], memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", REEMBED, estimated)
    no = terminal("embeddings", "rebuild")
    no.expect("500 texts to embed, 100 chunks copied")
    no.expect("about 15,000 tokens, 0.0003 USD, 1 min 30 s")
    no.expect("[y/N]")
    no.type("n\n")
    assert no.ends() == 1
    yes = terminal("embeddings", "rebuild")
    yes.expect("[y/N]")
    yes.type("y\n")
    yes.expect("job 7")
    assert yes.ends() == 0
    assert [body["dry_run"] for body in memory_api.bodies("POST", REEMBED)] == [True, True, False]


ENDS = [
    (DONE, 0),
    ({**DONE, "quarantined": 3}, 5),
    ({**DONE, "done": 0, "quarantined": 1000}, 6),
    ({**DONE, "state": "cancelled", "done": 5}, 5),
    ({**DONE, "state": "cancelled", "done": 0}, 6),
    (WAITS, 8),
    ({**RUNNING, "state": "paused", "paused_for": "user"}, 9),
]


@pytest.mark.parametrize(("last", "code"), ENDS)
def test_waiting_ends_with_what_came_of_the_job(
    run: Run, memory_api: StubMemoryApi, last: dict[str, Any], code: int
) -> None:
    memory_api.on("POST", REEMBED, begun(RUNNING))
    memory_api.on("GET", STATUS, state(filling()))
    memory_api.on("GET", f"{JOBS}/7", [Reply(RUNNING), Reply(last)])
    result = run("embeddings", "reembed", "--wait", "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["jobs"] == [last]


def test_waiting_ends_when_its_time_is_up(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", REEMBED, begun(RUNNING))
    memory_api.on("GET", f"{JOBS}/7", Reply(RUNNING))
    memory_api.on("GET", STATUS, state(filling()))
    assert run("embeddings", "reembed", "--wait", "--timeout", "1s").exit_code == 9
    memory_api.on("GET", STATUS, state(filling(trouble="no answer")))
    assert run("embeddings", "reembed", "--wait", "--timeout", "1s").exit_code == 3


def test_an_interrupt_says_that_the_job_goes_on_and_how_to_pause_it(
    terminal: Callable[..., Any], memory_api: StubMemoryApi
) -> None:
    memory_api.on("POST", REEMBED, begun(RUNNING))
    memory_api.on("GET", f"{JOBS}/7", Reply(RUNNING))
    memory_api.on("GET", STATUS, state(filling(), jobs=[RUNNING]))
    for command, way in ((["reembed", "--wait"], "pause 7"), (["status", "--watch"], "pause ID")):
        memory = terminal("embeddings", *command)
        memory.expect("125/s")
        memory.process.send_signal(signal.SIGINT)
        assert memory.ends() == 130
        assert f"memory embeddings {way}" in memory.shown.partition("interrupted: ")[2]


def test_watching_shows_a_rebuild_of_a_space_that_is_ready_until_it_ends(run: Run, memory_api: StubMemoryApi) -> None:
    ready = space(active=True)
    rebuild = {**RUNNING, "embedding_version": "m-768-1"}
    done = {**rebuild, "state": "done", "done": 1000}
    memory_api.on(
        "GET", STATUS, [state(ready, jobs=[rebuild]), state(ready, jobs=[rebuild]), state(ready, jobs=[done])]
    )
    result = run("embeddings", "status", "--watch", "--json")
    assert result.exit_code == 0
    assert [json.loads(line)["jobs"] for line in result.stdout.splitlines()] == [[rebuild], [done]]


def test_a_rebuild_is_watched_as_a_bar_of_its_own(terminal: Callable[..., Any], memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", STATUS, state(space(active=True), jobs=[{**RUNNING, "embedding_version": "m-768-1"}]))
    memory = terminal("embeddings", "status", "--watch")
    memory.expect("reembed of m-768-1: running, 250 of 1,000")
    memory.process.send_signal(signal.SIGINT)
    assert memory.ends() == 130


def test_waiting_for_a_reindex_includes_the_fills_behind_it(run: Run, memory_api: StubMemoryApi) -> None:
    reindexing = job(None, id=8, kind="reindex", state="done")
    behind = {**RUNNING, "id": 9}
    memory_api.on("POST", REINDEX, begun(reindex={**reindexing, "state": "running"}, memories=3, outdated=2))
    memory_api.on("GET", f"{JOBS}/8", Reply(reindexing))
    memory_api.on("GET", f"{JOBS}/9", Reply({**behind, "state": "done", "quarantined": 2}))
    memory_api.on(
        "GET",
        STATUS,
        [
            state(space(pending=4), jobs=[DONE]),
            state(filling(), jobs=[behind]),
            state(space(), jobs=[{**behind, "state": "done", "quarantined": 2}]),
        ],
    )
    result = run("embeddings", "reindex", "--wait")
    assert result.exit_code == 5
    assert "2 chunks were skipped" in result.stderr


def test_without_an_embedder_the_exit_code_says_so(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", REEMBED, problem(409, "no_embedder", "there is no space to fill", "apply a Provider"))
    assert run("embeddings", "reembed").exit_code == 4


def test_open_jobs_complete_in_the_shell(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", JOBS, Reply({"jobs": [{**RUNNING, "id": 17}, {**DONE, "id": 18}, {**RUNNING, "id": 2}]}))
    words = {"COMP_WORDS": "memory embeddings cancel 1", "COMP_CWORD": "3", "_MEMORY_COMPLETE": "complete_bash"}
    assert run(env=words).stdout.split() == ["17"]


def test_status_says_what_a_paused_job_waits_for(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("GET", STATUS, state(filling(active=True), jobs=[WAITS]))
    result = run("status")
    assert "paused jobs\t1\n" in result.stdout
    assert "hint: raise spec.embedding.budget" in result.stderr
    watched = run("embeddings", "status", "--watch", "--json")
    assert watched.exit_code == 8
    assert [json.loads(line)["jobs"] for line in watched.stdout.splitlines()] == [[WAITS]]


def test_a_watched_fill_prints_a_line_of_json_for_each_change(run: Run, memory_api: StubMemoryApi) -> None:
    first, second = filling(active=True), filling(active=True, coverage=0.5)
    memory_api.on("GET", STATUS, [state(first), state(first), state(second), state(space(active=True))])
    result = run("embeddings", "status", "--watch", "--json")
    assert result.exit_code == 0
    shown = [json.loads(line)["spaces"][0] for line in result.stdout.splitlines()]
    assert shown == [first, second, space(active=True)]


def test_usage_is_shown_by_what_is_asked_for(run: Run, memory_api: StubMemoryApi) -> None:
    used = {
        "calls": 3,
        "unanswered_calls": 1,
        "inputs": 20,
        "tokens": 1234,
        "uncounted_tokens": 5,
        "cost": "0.0246800",
        "currency": "USD",
    }
    groups = [{"group": "fill", **used}, {"group": "probe", **used, "cost": None}]
    document = {"from": "2026-01-01", "to": "2026-01-31", "tenant": None, "groups": groups, "total": used}
    memory_api.on("GET", "/v1/usage", Reply(document))
    result = run("usage", "--by", "purpose", "--from", "2026-01-01")
    assert [line.split("\t") for line in result.stdout.splitlines()] == [
        ["PURPOSE", "CALLS", "UNANSWERED", "TEXTS", "TOKENS", "UNCOUNTED", "COST"],
        ["fill", "3", "1", "20", "1,234", "5", "0.02468 USD"],
        ["probe", "3", "1", "20", "1,234", "5", "–"],
        ["total", "3", "1", "20", "1,234", "5", "0.02468 USD"],
    ]
    assert "all tenants, 2026-01-01 to 2026-01-31" in result.stderr
    assert memory_api.received[0].params == {"from": "2026-01-01", "group_by": "purpose"}
    assert json.loads(run("usage", "--json").stdout) == document
    assert run("usage", "--to", "tomorrow").exit_code == 2
