"""What people see: answers on stdout, remarks on stderr, and nothing that could steer their terminal.

On a terminal tables are aligned and coloured (NO_COLOR is honoured); in a pipe they are lines of tab-separated
fields under one header line.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from memory_operator.client.errors import CommandError
from memory_operator.client.terminal.format import cell_width, clean, json_text, one_line, padded
from memory_operator.client.terminal.table import Cell, Columns, fit

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "bold red": "1;31"}
_STYLES = {
    "ready": "green",
    "filling": "yellow",
    "orphaned": "red",
    "retired": "dim",
    "paused": "yellow",
    "cancelled": "dim",
    "!": "red",
}


class Screen:
    """The two streams of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.is_terminal = sys.stdout.isatty()
        self.may_ask = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
        """Whether there is somebody who could answer a question."""
        self.may_animate = sys.stderr.isatty() and not as_json

    def document(self, document: Any) -> None:
        """One JSON document on stdout."""
        sys.stdout.write(json_text(document) + "\n")

    def json_line(self, document: Any) -> None:
        """One JSON document on one line of stdout, at once: whoever reads a pipe waits for it."""
        sys.stdout.write(json_text(document, indent=None) + "\n")
        sys.stdout.flush()

    def json_remark(self, document: Any) -> None:
        """One JSON document on one line of stderr."""
        sys.stdout.flush()
        sys.stderr.write(json_text(document, indent=None) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """A line of the answer."""
        sys.stdout.write(_styled(sys.stdout, clean(text), style) + "\n")

    def remark(self, text: str, style: str = "") -> None:
        """A line about the answer, on stderr; none with --json."""
        if not self.as_json:
            self.ask_about(text, style)

    def ask_about(self, text: str, style: str = "") -> None:
        """A line of what a question is about; shown with --json too, since a person is there to answer."""
        sys.stdout.flush()  # what was said before stands before it
        sys.stderr.write(_styled(sys.stderr, clean(text), style) + "\n")

    def fields(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, one pair a line."""
        width = max((cell_width(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            shown = _styled(sys.stdout, padded(name, width), "dim") + "  " if self.is_terminal else f"{name}\t"
            sys.stdout.write(f"{shown}{one_line(value)}\n")

    def table(self, columns: Columns, rows: Sequence[Sequence[str]]) -> None:
        """A table, as wide as the terminal at most."""
        flat = [[one_line(cell) for cell in row] for row in rows]
        if not self.is_terminal:
            for row in (columns.names, *flat):
                self.line("\t".join(row))
            return
        for line in fit(columns, flat, shutil.get_terminal_size().columns):
            sys.stdout.write("".join(_styled(sys.stdout, cell.shown, _style(cell)) for cell in line).rstrip() + "\n")

    def failure(self, failure: CommandError) -> None:
        """Why the command ends, on stderr: a problem document with --json, else a sentence and what to do next."""
        sys.stdout.flush()
        if self.as_json:
            sys.stderr.write(json_text(failure.document) + "\n")
            return
        sys.stderr.write(_styled(sys.stderr, "error: ", "bold red") + clean(failure.detail) + "\n")
        if failure.hint:
            sys.stderr.write(_styled(sys.stderr, "hint: ", "bold") + clean(failure.hint) + "\n")

    def confirm(self, question: str) -> bool:
        """Ask for a yes on the terminal; anything else is a no."""
        sys.stderr.write(f"{clean(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _style(cell: Cell) -> str:
    if cell.column and cell.value == cell.column:
        return "bold"
    return _STYLES.get(cell.value, "")


def _styled(stream: TextIO, text: str, style: str) -> str:
    plain = not (style and text) or not stream.isatty()
    if plain or os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown"):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"
