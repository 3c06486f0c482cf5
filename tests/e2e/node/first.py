"""The first process inside the namespaces of a node: mounts, network, then the programs; it adopts what they leave.

    python first.py PLAN      a JSON file, see `node.py`

It ends with its namespaces, by the hand of keeper.py.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

READY_SECONDS = 120.0
POLL_SECONDS = 0.05


def do(*command: str) -> None:
    """Run a program; its failure is the end of the node."""
    subprocess.run(command, check=True, timeout=30)


def mount(plan: dict[str, Any]) -> None:
    """Give the programs folders of their own where they cannot be told to use others."""
    do("mount", "--make-rshared", "/")
    do("mount", "-t", "tmpfs", "tmpfs", "/run")
    for name in ("lock", "netns", "containerd"):
        Path("/run", name).mkdir()
    for source, target in plan["mounts"]:
        Path(target).mkdir(parents=True, exist_ok=True)
        do("mount", "--bind", source, target)


def connect(plan: dict[str, Any]) -> None:
    """A network that has a node and a default route, and leads nowhere."""
    do("ip", "link", "set", "lo", "up")
    # Both ends of the pair stay here: not every kernel has the dummy device.
    do("ip", "link", "add", "node0", "type", "veth", "peer", "name", "node0-peer")
    do("ip", "link", "set", "node0-peer", "up")
    do("ip", "addr", "add", f"{plan['address']}/24", "dev", "node0")
    do("ip", "link", "set", "node0", "up")
    # Without a route there is no way to a Service's address, which only a rule on the way makes into a pod's.
    do("ip", "route", "add", "default", "dev", "node0", "src", plan["address"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    bridge = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if bridge.exists():  # else the kernel looks at what crosses a bridge anyway, or cannot
        bridge.write_text("1")
    socket.sethostname(plan["name"])


def start(plan: dict[str, Any], group: str) -> None:
    """Start the programs of a group; each has a log of its own."""
    for program in plan[group]:
        with open(program["log"], "ab") as log:
            subprocess.Popen(
                program["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=plan["environment"],
            )


def wait_ready(plan: dict[str, Any]) -> None:
    """Until the API server is ready. Raises TimeoutError."""
    trust = ssl.create_default_context(cafile=plan["ready"]["authority"])
    trust.load_cert_chain(plan["ready"]["certificate"], plan["ready"]["key"])
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(plan["ready"]["url"], timeout=5, context=trust):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API server is not ready: {error}") from error
        time.sleep(POLL_SECONDS)


def main(path: str) -> None:
    """Make the node, then adopt."""
    plan = json.loads(Path(path).read_text())
    mount(plan)
    connect(plan)
    start(plan, "before")
    wait_ready(plan)
    start(plan, "after")
    while True:
        pid, status = os.wait()
        print(f"{pid} ended: {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
