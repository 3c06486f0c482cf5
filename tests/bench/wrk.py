"""Clients of the API that cost little: `wrk`, which is C and asks over connections that stay open."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WRK = "wrk"
_EXTRA_SECONDS = 60

# An answer is incomplete that is no 200, or of which a channel says that it found nothing in time.
_SCRIPT = """
local bodies, number, threads = {}, 0, {}
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
function setup(thread) table.insert(threads, thread) end
function init() incomplete, refused = 0, 0 end
function request()
  number = number % #bodies + 1
  return wrk.format("POST", "/memory/query", HEADERS, bodies[number])
end
function response(status, headers, body)
  if status ~= 200 then refused = refused + 1
  elseif body:find('"status":"timeout"') or body:find('"status":"unavailable"') then incomplete = incomplete + 1 end
end
function done(summary, latency, requests)
  local lost, cut = 0, 0
  for _, thread in ipairs(threads) do lost, cut = lost + thread:get("refused"), cut + thread:get("incomplete") end
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format('FOUND {"rate": %f, "p50": %f, "p99": %f, "refused": %d, "incomplete": %d}',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    lost + broken, cut))
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
    refused: int
    """Not answered 200, or not at all."""
    incomplete: int
    """Answered without one of the channels."""


def is_there() -> bool:
    """Whether the load generator is installed."""
    return shutil.which(WRK) is not None


class Wrk:
    """Queries with the same bodies, in turn."""

    def __init__(self, folder: Path, port: int, token: str, bodies: Sequence[str]) -> None:
        (folder / "bodies").write_text("\n".join(bodies) + "\n")
        self._script = folder / "query.lua"
        self._script.write_text(_SCRIPT.replace("BODIES", str(folder / "bodies")).replace("TOKEN", token))
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, clients: int, seconds: float) -> Load:
        """So many clients for so long, each the next thing as soon as it was answered."""
        words = ("-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(self._script), self._url)
        done = subprocess.run(
            [WRK, *words], capture_output=True, text=True, timeout=seconds + _EXTRA_SECONDS, check=False
        )
        assert "FOUND " in done.stdout, done.stdout + done.stderr
        return Load(**json.loads(done.stdout.partition("FOUND ")[2].splitlines()[0]))
