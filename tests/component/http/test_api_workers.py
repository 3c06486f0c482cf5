"""`memory-operator api --workers N`: one port, several processes, and what becomes of each of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fixtures.dev import free_port
from fixtures.plain_http import NO_AUTHORITIES
from fixtures.processes import Processes, Running
from fixtures.waiting import WAIT_SECONDS, eventually, until

KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: none, user: {token: none}}]
contexts: [{name: none, context: {cluster: none, user: none, namespace: default}}]
current-context: none
"""


class Api:
    """One API with two workers."""

    def __init__(self, processes: Processes, *words: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        kubeconfig = processes.folder / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG)
        self.running: Running = processes.start(
            *("api", "--workers", "2", "--host", "127.0.0.1", "--port", str(self.port), "--auth-mode", "none"),
            *("--kubeconfig", str(kubeconfig), "--namespaces", "default", *words),
        )

    def workers(self) -> list[int]:
        """Process ids."""
        owner = self.running.process.pid
        return [int(pid) for pid in Path(f"/proc/{owner}/task/{owner}/children").read_text().split()]

    def both_ready(self) -> str:
        """The metrics of both workers, once both answer."""

        def there() -> str | None:
            assert self.running.process.poll() is None, self.running.text()
            found = self.running.probe("/metrics")
            text = found[1] if found else ""
            return text if all(f'process_start_time_seconds{{worker="{n}"}}' in text for n in (0, 1)) else None

        self.running.until("/readyz", 200)
        return eventually(there, "both workers answer")


def gone(pid: int) -> bool:
    """Whether a process has ended, or waits only to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_each_worker_counts_for_itself_and_a_stop_ends_all(processes: Processes) -> None:
    api = Api(processes)
    text = api.both_ready()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all('{worker="0"' in line or '{worker="1"' in line for line in lines), lines[:5]
    assert text.count("# TYPE memory_http_requests_total counter") == 1
    for _ in range(8):
        assert httpx.get(f"{api.url}/v1/stats", verify=NO_AUTHORITIES).status_code == 200
    counted = [line for line in api.both_ready().splitlines() if "http_requests_total{" in line and "/v1/stats" in line]
    assert sum(float(line.split()[-1]) for line in counted) == 8
    workers = api.workers()
    assert len(workers) == 2
    assert api.running.stop() == 0
    for pid in workers:
        eventually(lambda pid=pid: gone(pid), "the worker has ended")


async def test_a_worker_that_is_killed_loses_nothing_that_was_acknowledged(processes: Processes) -> None:
    api = Api(processes)
    await asyncio.to_thread(api.both_ready)
    victim = api.workers()[0]
    stored: list[str] = []

    async def client(name: int) -> None:
        async with httpx.AsyncClient(base_url=api.url, timeout=60, trust_env=False, verify=NO_AUTHORITIES) as http:
            for number in range(15):
                try:
                    answer = await http.post("/memory/add", json={"text": f"memory {number} of client {name}"})
                except httpx.TransportError:
                    continue  # it was in hand when its worker died, and is not acknowledged
                assert answer.status_code == 201, answer.text
                stored.append(answer.json()["id"])
                if len(stored) == 20:
                    os.kill(victim, signal.SIGKILL)

    await asyncio.gather(*(client(name) for name in range(6)))
    assert gone(victim)
    assert len(stored) > 40
    async with httpx.AsyncClient(base_url=api.url, timeout=60, trust_env=False, verify=NO_AUTHORITIES) as http:
        for memory in stored:
            assert (await http.get(f"/memory/{memory}")).status_code == 200

    async def replaced() -> bool:
        return victim not in api.workers() and len(api.workers()) == 2

    await until(replaced, "another worker is there")
    await asyncio.to_thread(api.both_ready)
    assert "API worker" in api.running.text()
    assert "by signal 9" in api.running.text()


def test_workers_do_not_outlive_an_owner_that_is_killed(processes: Processes) -> None:
    api = Api(processes)
    api.both_ready()
    workers = api.workers()
    api.running.process.kill()
    for pid in workers:
        eventually(lambda pid=pid: gone(pid), "the worker has ended")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{api.url}/livez")


def test_workers_that_cannot_start_are_told_once_and_end_it(processes: Processes) -> None:
    processes.key.write_text("00" * 32)
    other = processes.folder / "other.key"
    other.write_text("11" * 32)
    first = Api(processes)
    first.both_ready()
    wrong = Api(processes, "--master-key-file", str(other))
    assert wrong.running.ends_by_itself() == 2
    assert "master key" in wrong.running.text()
    assert "Traceback" not in wrong.running.text()


STOPS_ONCE_FROZEN = """
import gc, os, signal, threading, time
def watch():
    while not gc.get_freeze_count():
        time.sleep(0.05)
    print(gc.get_freeze_count(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from memory_operator.cli import app
app({words})
"""


def test_an_api_that_serves_never_collects_garbage_among_what_it_was_started_with(processes: Processes) -> None:
    kubeconfig = processes.folder / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    words = ["api", "--host", "127.0.0.1", "--port", str(free_port()), "--auth-mode", "none", "--namespaces", "default"]
    words += ["--kubeconfig", str(kubeconfig), "--probe-host", "127.0.0.1", "--probe-port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-c", STOPS_ONCE_FROZEN.format(words=words)],
        env=processes.environment,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50_000
