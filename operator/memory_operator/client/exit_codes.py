"""What the exit code of `memory` says."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes, the same for every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    EMBEDDER_NOT_SET_UP = 3
    NO_EMBEDDER = 4
    DONE_IN_PART = 5
    NOTHING_SUCCEEDED = 6
    CONSENT_REQUIRED = 7
    BUDGET_REACHED = 8
    GATE_NOT_PASSED = 9


LEGEND = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 embedder could not be set up, 4 no embedder configured, "
    "5 done in part, 6 nothing succeeded, 7 consent required, 8 budget reached, 9 gate not passed."
)
