"""Builds kube-apiserver, etcd, kubectl, helm and what judges the chart for the tests, where they are not there yet.

    python tests/cluster/build.py

The tests do the same on first use. Exits 1, with the cause and the ways out, when it cannot.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main() -> int:
    """Find or build the programs, print where they are."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from cluster.harness.errors import ProgramsMissingError
    from cluster.harness.judges import find_judges
    from cluster.harness.programs import find_helm, find_programs

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        with ThreadPoolExecutor(1) as beside:  # it waits for a network while the others are compiled
            judges = beside.submit(find_judges, os.environ, say)
            programs = find_programs(os.environ, say)
            helm = find_helm(os.environ, say)
            judges.result()
    except ProgramsMissingError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    print(programs.kube_apiserver, programs.etcd, programs.kubectl, helm, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
