"""Makes ready what the tests on a node need: packages of the machine, programs, images.

    python tests/e2e/prepare.py [--only-images]

Whatever is there already stays. Exits 1, with the cause and the ways out, when something cannot be had.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.harness import ControlPlaneError, find_helm, find_node_programs
from e2e.images.build import OUTPUT, make_images
from e2e.images.room import RoomError
from e2e.node.packages import install


def say(line: str) -> None:
    """Tell at once: some of this takes minutes."""
    print(line, flush=True)


def main() -> int:
    """Make everything ready."""
    parser = argparse.ArgumentParser(prog="prepare.py", description="Makes ready what the tests on a node need.")
    parser.add_argument("--only-images", action="store_true", help="the images, and nothing for a node")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        install(os.environ, say)
        if not arguments.only_images:
            find_node_programs(os.environ, say)
            find_helm(os.environ, say)
        make_images(OUTPUT, os.environ, say)
    except (ControlPlaneError, RoomError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    say(f"ready after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
