"""A cluster of 1,000 Providers, most of another role: the operator's start, and what it asks for at rest."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, at_most, exactly, told
from cluster.harness import ControlPlane, find_programs
from fixtures.crowd import crowd, edit_others, requests_so_far
from fixtures.kube import Namespace
from fixtures.processes import Processes
from fixtures.waiting import until
from memory_operator.store.db.migrate import migrate

EMBEDDING = 10
OTHERS = 990
START_TARGET_SECONDS = 30.0
REST_SECONDS = 130
"""Two of the operator's listings, and more."""
REST_TARGET_PER_SECOND = 5.0
EDITED = 190
EDITED_SECONDS = 10
NAMESPACE = "crowd"


async def run(dsn: str) -> list[Figure]:
    """Start beside them, then do nothing."""
    await migrate(dsn)
    return await asyncio.to_thread(_measure, dsn)


def _measure(dsn: str) -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="memory-bench-"))
    control_plane = ControlPlane(find_programs(os.environ, print), _made(folder / "control-plane"), os.environ)
    processes = Processes(_made(folder / "processes"), dsn)
    try:
        control_plane.start()
        served = Namespace(control_plane, folder, NAMESPACE)
        served.install_crd("ours")
        control_plane.create_namespace(NAMESPACE)
        control_plane.apply_rbac(NAMESPACE)
        crowd(control_plane, NAMESPACE, embedding=EMBEDDING, others=OTHERS)
        return _figures(served, processes)
    finally:
        processes.close()
        control_plane.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _figures(served: Namespace, processes: Processes) -> list[Figure]:
    config = str(served.kubeconfig_of("memory-operator"))
    began = time.monotonic()
    operator = processes.start("run", "--kubeconfig", config, "--namespaces", served.name)
    operator.until("/readyz", 200)
    ready = time.monotonic() - began
    asyncio.run(until(lambda: _ready(served) == EMBEDDING, "all of ours are Ready"))
    all_ready = time.monotonic() - began
    time.sleep(10)  # what follows from the last change
    before, at = requests_so_far(served.control_plane), time.monotonic()
    time.sleep(REST_SECONDS)
    spent, seconds = requests_so_far(served.control_plane), time.monotonic() - at
    spent.subtract(before)
    before = requests_so_far(served.control_plane)
    edit_others(served.control_plane, NAMESPACE, others=EDITED)
    time.sleep(EDITED_SECONDS)
    edits = requests_so_far(served.control_plane)
    edits.subtract(before)
    assert operator.stop() == 0
    crowded = f"{EMBEDDING + OTHERS:,} Providers, {OTHERS} of other roles"
    return [
        at_most(f"operator's start beside {crowded}: ready", ready, "s", START_TARGET_SECONDS),
        at_most("the same: all of ours have their space", all_ready, "s", START_TARGET_SECONDS),
        at_most("at rest: requests to the API server", sum(spent.values()) / seconds, "1/s", REST_TARGET_PER_SECOND),
        exactly("at rest: patches", sum(n for (verb, _), n in spent.items() if verb == "PATCH"), "", 0),
        told("at rest: listings", spent["LIST", "providers"], ""),
        exactly(f"{EDITED} Providers of other roles edited: reads of a Provider", edits["GET", "providers"], "", 0),
        exactly("the same: patches beside the edits", edits["PATCH", "providers"] - EDITED, "", 0),
    ]


def _ready(served: Namespace) -> int:
    return sum(item.get("status", {}).get("phase") == "Ready" for item in served.items("providers"))


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder
