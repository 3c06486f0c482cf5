"""Why a command ends without having done what it was asked.

CommandError
├── MisuseError          the command line is wrong; exit 2
├── UnreachableError     no answer from the server
├── MisunderstoodError   an answer, but not one of a memory API
└── RefusedError         the memory API said no, and why (RFC 9457)
"""

from __future__ import annotations

import re
from typing import Any

from memory_operator.client.exit_codes import ExitCode

_EXIT_BY_CODE = {
    "coverage_below_threshold": ExitCode.GATE_NOT_PASSED,
    "gate_not_passed": ExitCode.GATE_NOT_PASSED,
    "consent_required": ExitCode.CONSENT_REQUIRED,
    "budget_reached": ExitCode.BUDGET_REACHED,
    "no_embedder": ExitCode.NO_EMBEDDER,
    "embedder_unavailable": ExitCode.EMBEDDER_NOT_SET_UP,
}

# What the server says in terms of requests, in those of the command line.
_COMMAND_BY_REQUEST = (
    (r"POST /v1/jobs/(\d+)/(pause|resume|cancel)", r"`memory embeddings \2 \1`"),
    (r"GET /v1/jobs", "`memory embeddings jobs`"),
    (r"GET /v1/embeddings/spaces", "`memory embeddings list`"),
    (r"POST /v1/(reembed|reindex)", r"`memory embeddings \1`"),
    (r"asked for by /v1/reembed", "begun by `memory embeddings reembed`"),
    (r"POST /v1/embeddings/activate", "`memory embeddings activate`"),
    (r"drop one with DELETE /v1/embeddings/rehearsals/\S+, or wait", "wait"),
    (r"GET /v1/(stats|projects)", "`memory stats`"),
    (r"GET /v1/usage", "`memory usage`"),
    (r"/memory/add answers it", "`memory add` prints it"),
    (r"correct the request; /docs shows", "correct the command; --help shows"),
    (r"/docs shows", "--help shows"),
    (r"GET /openapi.json lists .*", "the server may be of another age than this program"),
    (r"GET the (same path|path without an id)", "`memory embeddings consent`"),
)

_HINT_BY_CODE = {
    "coverage_below_threshold": "wait for it with memory embeddings status --watch, or give --force",
    "gate_not_passed": "`memory embeddings compare` shows how they differ; --force switches all the same",
    "ambiguous_provider": "name one of them with --provider",
    "no_provider": "apply a Provider first, or name the one to come with --provider",
    "job_open": "see `memory embeddings jobs`; `memory embeddings resume ID` or `cancel ID` makes way for another one",
    "job_ended": "`memory embeddings reembed` starts another one for what is missing",
}


class CommandError(Exception):
    """A command cannot go on."""

    code = "failed"

    def __init__(self, detail: str, hint: str = "", exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` prints on stderr: a problem, as the server would describe it."""
        return {
            "type": f"urn:memory-operator:problem:{self.code}",
            "title": "The command failed",
            "detail": self.detail,
            "code": self.code,
            "hint": self.hint,
        }


class MisuseError(CommandError):
    """The command line asks for something that cannot be."""

    code = "usage"

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail, hint, ExitCode.USAGE)


class UnreachableError(CommandError):
    """The server gave no answer."""

    code = "server_unreachable"

    def __init__(self, detail: str, hint: str = "", *, sent: bool) -> None:
        super().__init__(detail, hint)
        self.sent = sent
        """Whether the server may have received the request, and so may have done what it asks."""


class MisunderstoodError(CommandError):
    """What answered is not a memory API, or one of another age."""

    code = "not_a_memory_api"


class RefusedError(CommandError):
    """The memory API refused, and said why."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after: float | None) -> None:
        """`problem` is the body as the server sent it; `retry_after` is in seconds."""
        self.status = status
        self.problem = problem
        self.retry_after = retry_after
        self.code = str(problem.get("code") or f"http_{status}")
        detail = in_commands(str(problem.get("detail") or problem.get("title") or f"the server answered {status}"))
        super().__init__(detail, _hint(status, self.code, problem), _exit_of(status, self.code))

    @property
    def document(self) -> dict[str, Any]:
        """The server's own words."""
        return self.problem


def _hint(status: int, code: str, problem: dict[str, Any]) -> str:
    """What to do next: in the words of the command line where the server speaks of requests."""
    if code in _HINT_BY_CODE:
        return _HINT_BY_CODE[code]
    if status == 401:
        return "put the token into MEMORY_TOKEN, or name its file with --token-file"
    hint = in_commands(str(problem.get("hint") or ""))
    if status >= 500 and problem.get("request_id"):
        return f"{hint}{'; ' if hint else ''}request {problem['request_id']}"
    return hint


def in_commands(hint: str) -> str:
    """A hint that names commands where the server's names requests."""
    for request, command in _COMMAND_BY_REQUEST:
        hint = re.sub(request, command, hint)
    return hint


def _exit_of(status: int, code: str) -> ExitCode:
    if code in _EXIT_BY_CODE:
        return _EXIT_BY_CODE[code]
    return ExitCode.USAGE if status in (400, 413, 422) else ExitCode.FAILED
