"""Adding many memories: a bounded number of requests in flight, and an exact account of what became of each line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from memory_operator.client.bulk.lines import EVERY_LINE, LineSet, Row
from memory_operator.client.errors import CommandError, RefusedError, UnreachableError
from memory_operator.client.exit_codes import ExitCode
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient, retry_delay

ATTEMPTS = 8
"""How often one line is sent in all while the server turns it away."""
ERRORS_IN_A_ROW = 10
"""After so many answers that are the server's fault, with none that is good, a run ends."""

_LINES_OWN_FAULT = (400, 409, 413, 422)


@dataclass(frozen=True, slots=True)
class LineFailure:
    """Why one line is not stored."""

    line: int
    detail: str
    code: str


@dataclass(slots=True)
class Account:
    """What became of the lines of one run."""

    wanted: LineSet = EVERY_LINE
    keep_answers: bool = False
    stored: int = 0
    pending: int = 0
    """Stored, and waiting for the embedder."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    refused: list[LineFailure] = field(default_factory=list)
    """Lines that will be refused again as they are."""
    failed: list[LineFailure] = field(default_factory=list)
    """Lines that are not stored although nothing is wrong with them."""
    unknown: list[LineFailure] = field(default_factory=list)
    """Lines that were sent and never answered: they may have been stored."""
    tail: int | None = 1
    """The first line that was not looked at; None when all were."""
    stopped_by: CommandError | None = None
    interrupted: bool = False

    @property
    def remaining(self) -> LineSet:
        """Lines that are worth another run."""
        failed = LineSet.of(failure.line for failure in self.failed)
        return failed if self.tail is None else failed | self.wanted.since(self.tail)

    @property
    def exit_code(self) -> ExitCode:
        """0 when every line is stored, 5 when some are, 6 when none is; that of the obstacle when none was tried."""
        if not (self.refused or self.failed or self.unknown or self.tail is not None):
            return ExitCode.DONE
        if self.stored:
            return ExitCode.DONE_IN_PART
        if self.stopped_by is not None and not self.refused and not _is_about_one_line(self.stopped_by):
            return self.stopped_by.exit_code
        return ExitCode.NOTHING_SUCCEEDED

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "stored": self.stored,
            "pending": self.pending,
            "refused": _listed(self.refused),
            "failed": _listed(self.failed),
            "unknown": _listed(self.unknown),
            "remaining_lines": str(self.remaining) or None,
            "stopped_by": self.stopped_by.document if self.stopped_by else None,
            "results": sorted(self.answers, key=lambda answer: int(answer["line"])),
        }


def _listed(failures: list[LineFailure]) -> list[dict[str, Any]]:
    ordered = sorted(failures, key=lambda one: one.line)
    return [{"line": one.line, "code": one.code, "detail": one.detail} for one in ordered]


class BulkAdd:
    """One run. An interrupt lets what is in flight finish; a second one ends the process at once."""

    def __init__(self, api: ApiClient, defaults: dict[str, Any], *, in_flight: int, account: Account) -> None:
        self._api = api
        self._defaults = defaults
        self._in_flight = in_flight
        self._account = account
        self._stop = threading.Event()
        self._reading = False
        self._errors = 0
        self._open: dict[Future[Any], Row] = {}

    def send(self, rows: Iterator[Row], tell: Callable[[], None]) -> None:
        """Send all rows, until something makes going on pointless; `tell` is called after every line.

        Blocks; to be called from the main thread, whose SIGINT it takes meanwhile.
        """
        pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="memory-add")
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            self._send_all(pool, rows, tell)
            while self._open:
                self._await_some(tell)
        finally:
            signal.signal(signal.SIGINT, before)
            self._stop.set()
            pool.shutdown()

    def _interrupted(self, _signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._account.interrupted = True
        self._stop.set()
        if self._reading:
            raise KeyboardInterrupt

    def _send_all(self, pool: ThreadPoolExecutor, rows: Iterator[Row], tell: Callable[[], None]) -> None:
        while (row := self._next(rows)) is not None:
            self._account.tail = row.line
            while len(self._open) >= self._in_flight:
                self._await_some(tell)
            if self._stop.is_set():
                return
            if row.fault:
                self._account.refused.append(LineFailure(row.line, row.fault, "unreadable_line"))
                tell()
            else:
                self._open[pool.submit(self._add, row)] = row
            self._account.tail = row.line + 1
        if not self._stop.is_set():
            self._account.tail = None

    def _next(self, rows: Iterator[Row]) -> Row | None:
        # A read from a pipe may take for ever: only here does an interrupt break in.
        self._reading = True
        try:
            return next(rows, None)
        except KeyboardInterrupt:
            return None
        finally:
            self._reading = False

    def _await_some(self, tell: Callable[[], None]) -> None:
        """Book at least one answer. Every request has a time limit, so this ends."""
        done, _ = wait(self._open, return_when=FIRST_COMPLETED)
        for future in done:
            self._book(self._open.pop(future), future)
            tell()

    def _add(self, row: Row) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._api.post(paths.ADD, {**self._defaults, **row.body})
            except (RefusedError, UnreachableError) as failure:
                if attempt == ATTEMPTS or not self._may_repeat(failure):
                    raise
                if self._stop.wait(retry_delay(getattr(failure, "retry_after", None), attempt)):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _may_repeat(self, failure: CommandError) -> bool:
        """Whether the server has certainly not begun, and is likely to take the line a little later."""
        if isinstance(failure, RefusedError):
            return failure.status in (429, 503) and failure.retry_after is not None
        # A server that never answered is not there; one that did is being restarted.
        return isinstance(failure, UnreachableError) and not failure.sent and self._account.stored > 0

    def _book(self, row: Row, future: Future[Any]) -> None:
        account = self._account
        try:
            answer = future.result()
        except CommandError as failure:
            line = LineFailure(row.line, failure.detail, failure.code)
            if isinstance(failure, RefusedError) and failure.status in _LINES_OWN_FAULT:
                account.refused.append(line)
                return
            lost = isinstance(failure, UnreachableError) and failure.sent
            (account.unknown if lost else account.failed).append(line)
            self._errors += 1
            if self._errors >= ERRORS_IN_A_ROW or not _is_about_one_line(failure):
                account.stopped_by = account.stopped_by or failure
                self._stop.set()
        else:
            self._errors = 0
            account.stored += 1
            account.pending += isinstance(answer, dict) and answer.get("embedding_status") == "pending"
            if account.keep_answers:
                account.answers.append({"line": row.line, **answer})


def _is_about_one_line(failure: CommandError) -> bool:
    """Whether the next line may fare better: the server stumbled over this one, or took too long over it."""
    if isinstance(failure, RefusedError):
        return failure.status >= 500 and failure.status != 503
    return isinstance(failure, UnreachableError) and failure.sent
