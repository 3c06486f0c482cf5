"""`memory-operator check --deep`: the doctor where the API is away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.processes import Processes
from memory_operator.engine.admin.doctor.report import CHECKS

PROVIDER = """
apiVersion: omnia.altairalabs.ai/v1alpha1
kind: Provider
metadata: {name: memory, namespace: default}
spec: {role: embedding, type: mock, model: a, embedding: {dimensions: 8}}
"""


@pytest.fixture
def providers(tmp_path: Path) -> Path:
    """A folder with one Provider."""
    folder = tmp_path / "providers"
    folder.mkdir()
    (folder / "memory.yaml").write_text(PROVIDER)
    return folder


def checks(text: str) -> dict[str, dict[str, Any]]:
    """The first finding of each check."""
    return {each["check"]: each for each in reversed(json.loads(text)["checks"])}


async def test_a_deep_check_says_what_is_wrong_and_mends_what_is_free(
    world: World, processes: Processes, providers: Path
) -> None:
    await world.stored(2)
    async with world.operator(), world.worker():
        spec = {"type": "mock", "model": "a", "embedding": {"dimensions": 8}}
        await world.until_phase(world.cluster.apply("memory", spec), "Ready")
    words = ("check", "--providers", str(providers), "--deep")
    found = processes.run(*words)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "default/memory: settled: dimension 8" in found.stdout
    assert "OK    master-key    the master key opens the store's check value" in found.stdout
    async with world.store.connection() as conn:
        await conn.execute("insert into memory_reembed_jobs (space_id, bound, total) values (1, 10, 10)")
        await conn.execute(
            "insert into memory_reembed_leases (job_id, after_id, upto_id, state, token, presence, expires_at)"
            " select max(id), 0, 10, 'leased', gen_random_uuid(), 1, now() - interval '2 minutes'"
            " from memory_reembed_jobs"
        )
    found = processes.run(*words, "--fix")
    assert found.returncode == 1  # nobody works on the job
    assert "(mended)" in found.stdout
    assert await world.value("select state from memory_reembed_leases") == "open"
    told = checks(processes.run(*words, "--json").stdout)
    assert set(told) == set(CHECKS)
    assert told["leases"]["result"] == "ok"
    assert told["jobs"]["message"] == "there is work, and no worker is alive"


async def test_a_deep_check_of_a_held_change_still_ends_with_seven(
    world: World, processes: Processes, providers: Path
) -> None:
    await world.stored(2)
    async with world.operator(), world.worker():
        spec = {"type": "mock", "model": "a", "embedding": {"dimensions": 16}}
        await world.until_phase(world.cluster.apply("memory", spec), "Ready")
    found = processes.run("check", "--providers", str(providers), "--deep", "--no-calls")
    assert found.returncode == 7, found.stdout


def test_a_database_that_is_away_fails_its_check_and_no_other(processes: Processes, providers: Path) -> None:
    processes.environment["MEMORY_DATABASE_URL"] = "postgresql://x:y@127.0.0.1:1/none"
    words = ("check", "--providers", str(providers), "--deep")
    found = processes.run(*words, "--json")
    assert found.returncode == 1
    told = checks(found.stdout)
    assert {check: each["result"] for check, each in told.items()} == {
        **dict.fromkeys(CHECKS, "skipped"),
        "database": "fail",
    }
    assert processes.run("check", "--fix", "--providers", str(providers)).returncode == 2


def test_without_the_master_key_its_check_is_skipped(processes: Processes, providers: Path, database: str) -> None:
    del processes.environment["MEMORY_MASTER_KEY_FILE"]
    told = checks(processes.run("check", "--providers", str(providers), "--deep", "--json").stdout)
    assert (told["master-key"]["result"], told["active-space"]["result"]) == ("skipped", "fail")
