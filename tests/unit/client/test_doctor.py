"""`memory doctor`: what the server found, shown, mended and told by the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import Result

from fixtures.memory_api import Reply, StubMemoryApi, problem

Run = Callable[..., Result]
DOCTOR, REPAIR = "/v1/doctor", "/v1/doctor/repair"


def finding(check: str, result: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "check": check,
        "result": result,
        "subject": "",
        "message": f"{check} is {result}",
        "remedy": "" if result == "ok" else f"mend {check}",
        "repair": None,
        **more,
    }


def repair(kind: str, subject: str = "", tokens: int = 0, cost: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "subject": subject, "tokens": tokens, "cost": cost, "currency": "USD"}


def report(*findings: dict[str, Any], at: datetime | None = None) -> Reply:
    return Reply(
        {
            "verdict": "ok",
            "at": (at or datetime.now(UTC)).isoformat(),
            "version": "0.2.0",
            "checks": list(findings),
        }
    )


def test_each_check_is_a_line_and_what_is_wrong_has_what_mends_it(run: Run, memory_api: StubMemoryApi) -> None:
    skipped = finding("webhook", "not_permitted")
    held = finding("coverage", "warn", subject="m-768-1")
    memory_api.on("POST", DOCTOR, report(finding("database"), skipped, held, finding("jobs", "fail")))
    result = run("doctor")
    assert result.stdout.splitlines() == [
        "OK    database      database is ok",
        "–     webhook       webhook is not_permitted",
        "WARN  coverage      m-768-1: coverage is warn",
        "                    → mend coverage",
        "FAIL  jobs          jobs is fail",
        "                    → mend jobs",
    ]
    assert "1 FAIL, 1 WARN" in result.stderr
    assert result.exit_code == 1


@pytest.mark.parametrize(("results", "code"), [(["ok"], 0), (["warn", "skipped"], 0), (["warn", "fail"], 1)])
def test_only_a_fail_is_told_by_the_exit_code(
    run: Run, memory_api: StubMemoryApi, results: list[str], code: int
) -> None:
    memory_api.on("POST", DOCTOR, report(*(finding("jobs", result) for result in results)))
    assert run("doctor").exit_code == code
    shown = run("doctor", "--json")
    assert shown.exit_code == code
    assert [each["result"] for each in json.loads(shown.stdout)["checks"]] == results


def test_what_is_wrong_stands_apart_in_json(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", DOCTOR, report(finding("database"), finding("jobs", "fail", subject="7")))
    document = json.loads(run("doctor", "--json").stdout)
    assert document["problems"] == [{"what": "7: jobs is fail", "do": "mend jobs"}]


def test_no_vendor_is_called_where_that_is_not_wanted(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", DOCTOR, report())
    run("doctor")
    run("doctor", "--no-calls")
    assert [each.body for each in memory_api.received] == [{"calls": True}, {"calls": False}]


@pytest.mark.parametrize(("hours", "way"), [(-2, "ahead of"), (2, "behind")])
def test_the_clock_of_this_machine_is_compared_with_the_servers(
    run: Run, memory_api: StubMemoryApi, hours: int, way: str
) -> None:
    memory_api.on("POST", DOCTOR, report(at=datetime.now(UTC) + timedelta(hours=hours)))
    result = run("doctor")
    assert re.search(rf"WARN  clocks        this machine's clock is \d+ s {way} the server's", result.stdout)
    assert json.loads(run("doctor", "--json").stdout)["checks"][-1]["check"] == "clocks"


FIXABLE = (
    finding("leases", "warn", repair=repair("release-leases")),
    finding("indexes", "fail", repair=repair("drop-index", "memory_vectors_1_hnsw_cosine")),
)


def test_what_is_free_is_mended_and_counts_as_mended(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", DOCTOR, report(*FIXABLE))
    memory_api.on("POST", REPAIR, Reply({"kind": "drop-index", "repaired": 1}))
    assert run("doctor").exit_code == 1
    assert "--fix" in run("doctor").stderr
    memory_api.received.clear()
    result = run("doctor", "--fix")
    assert result.exit_code == 0
    assert [each.body for each in memory_api.received if each.path == REPAIR] == [
        {"kind": "release-leases"},
        {"kind": "drop-index", "subject": "memory_vectors_1_hnsw_cosine"},
    ]


def test_what_the_server_may_not_mend_is_said_and_keeps_nothing_else(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", DOCTOR, report(*FIXABLE))
    memory_api.on("POST", REPAIR, problem(403, "forbidden", "the role may not do that", hint="check --deep --fix"))
    result = run("doctor", "--fix")
    assert result.exit_code == 1
    assert "not mended: the role may not do that" in result.stderr


def test_what_costs_tokens_is_done_only_for_a_yes(run: Run, memory_api: StubMemoryApi) -> None:
    lacking = finding("coverage", "fail", repair=repair("reembed", "m-768-1", 12_000, "0.24"))
    memory_api.on("POST", DOCTOR, report(lacking))
    memory_api.on("POST", "/v1/reembed", Reply({"dry_run": False, "spaces": []}))
    refused = run("doctor", "--fix")
    assert refused.exit_code == 1
    assert "to fill m-768-1 takes about 12,000 tokens, 0.24 USD; nobody can be asked here" in refused.stderr
    assert "/v1/reembed" not in [each.path for each in memory_api.received]
    done = run("doctor", "--fix", "--yes")
    assert done.exit_code == 0
    assert [each.body for each in memory_api.received if each.path == "/v1/reembed"] == [
        {"embedding_version": "m-768-1"}
    ]


def test_a_server_without_a_doctor_is_told_apart(run: Run, memory_api: StubMemoryApi) -> None:
    memory_api.on(
        "POST", DOCTOR, problem(404, "not_found", "there is no such route", hint="GET /openapi.json lists the routes")
    )
    result = run("doctor")
    assert result.exit_code == 1
    assert "the server may be of another age" in result.stderr


def test_on_a_terminal_a_line_is_as_wide_as_that(terminal: Callable[..., Any], memory_api: StubMemoryApi) -> None:
    memory_api.on("POST", DOCTOR, report(finding("coverage", "warn", message="word " * 40, remedy="mend " * 40)))
    running = terminal("doctor", columns=80)
    assert running.ends() == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", running.shown).replace("\r", "").splitlines()
    assert max(len(line) for line in shown) <= 80
    assert shown[1].startswith(" " * 20 + "word")
