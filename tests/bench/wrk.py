"""Clients of the API that cost little: `wrk`, which is C and asks over connections that stay open."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WRK = "wrk"
ABSENT = "wrk is not installed, and it is what asks here: apt-get install wrk"
QUERY, ADD = "/memory/query", "/memory/add"
_EXTRA_SECONDS = 60

# Incomplete is a query of which a channel says that it found nothing in time, and a memory that waits for its vectors.
_SCRIPT = """
local bodies, number, threads = {}, 0, {}
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
function setup(thread) table.insert(threads, thread) end
function init() incomplete, refused, busy = 0, 0, 0 end
function request()
  number = number % #bodies + 1
  return wrk.format("POST", "PATH", HEADERS, bodies[number])
end
function response(status, headers, body)
  if status == 503 then busy = busy + 1
  elseif status ~= 200 and status ~= 201 then refused = refused + 1
  elseif body:find('"status":"timeout"') or body:find('"status":"unavailable"')
    or body:find('"embedding_status":"pending"') then incomplete = incomplete + 1 end
end
function done(summary, latency, requests)
  local all = {refused = 0, busy = 0, incomplete = 0}
  for _, thread in ipairs(threads) do
    for name in pairs(all) do all[name] = all[name] + thread:get(name) end
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  local form = 'FOUND {"rate": %f, "p50": %f, "p99": %f, "count": %d, "busy": %d, "refused": %d, "incomplete": %d}'
  print(string.format(form, summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, summary.requests,
    all.busy, all.refused + broken, all.incomplete))
end
HEADERS = {["Authorization"] = "Bearer TOKEN", ["Content-Type"] = "application/json"}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What became of a run."""

    rate: float
    """Answers a second."""
    p50: float
    """Milliseconds."""
    p99: float
    busy: int
    """Answered 503."""
    refused: int
    """Answered with another error, or not at all."""
    incomplete: int
    """Answered without one of the channels; of memories, stored without their vectors."""
    count: int
    """Answers."""


def is_there() -> bool:
    """Whether the load generator is installed."""
    return shutil.which(WRK) is not None


class Wrk:
    """Requests with the same bodies, in turn."""

    def __init__(self, folder: Path, port: int, token: str, bodies: Sequence[str], path: str = QUERY) -> None:
        name = path.rpartition("/")[2]
        self._bodies = len(bodies)
        self._path = path
        (folder / f"{name}.bodies").write_text("\n".join(bodies) + "\n")
        self._script = folder / f"{name}.lua"
        script = _SCRIPT.replace("BODIES", str(folder / f"{name}.bodies")).replace("TOKEN", token)
        self._script.write_text(script.replace("PATH", path))
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, clients: int, seconds: float) -> Load:
        """So many clients for so long, each the next thing as soon as it was answered."""
        words = ("-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(self._script), self._url)
        done = subprocess.run(
            [WRK, *words], capture_output=True, text=True, timeout=seconds + _EXTRA_SECONDS, check=False
        )
        assert "FOUND " in done.stdout, done.stdout + done.stderr
        load = Load(**json.loads(done.stdout.partition("FOUND ")[2].splitlines()[0]))
        assert self._path != ADD or load.count <= self._bodies, "a memory was added twice: too few bodies"
        return load
