"""What people see: answers on stdout, remarks on stderr, and nothing that could steer their terminal.

On a terminal tables are aligned and coloured (NO_COLOR is honoured); in a pipe they are lines of tab-separated
fields under one header line.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memory_operator.client.errors import CommandError

# C0 without newline and tab, DEL, C1, and the characters that turn the direction of writing around.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ESCAPED_IN_JSON = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

STATE_STYLES = {
    "ready": "green",
    "filling": "yellow",
    "orphaned": "red",
    "retired": "dim",
    "paused": "yellow",
    "cancelled": "dim",
}


def clean(text: str) -> str:
    """Foreign text without control characters, so that a stored memory cannot send codes to a terminal."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATE.sub("\ufffd", _STEERING.sub("", plain))


def one_line(text: str, width: int | None = None) -> str:
    """Foreign text on one line, cut after `width` characters."""
    flat = " ".join(clean(text).split())
    return flat if width is None or len(flat) <= width else flat[: max(0, width - 1)] + "…"


def json_text(document: Any, indent: int | None = 2) -> str:
    """One JSON document; characters that could steer a terminal are escaped, which means the same in JSON."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    return _ESCAPED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def number(value: int | None) -> str:
    """A count for people."""
    return "–" if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """A coverage 0…1 as a percentage; never rounded up to 100."""
    if value is None:
        return "–"
    return "100 %" if value >= 1 else f"{min(99.9, value * 100):.1f} %"


def moment(value: datetime | None) -> str:
    """A time, in this machine's time zone."""
    return "–" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """A span of time in its two largest units."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def price(amount: str | None, currency: str = "USD") -> str:
    """An exact amount of money, as the server sent it, without zeros at its end."""
    if amount is None:
        return "–"
    short = amount.rstrip("0").rstrip(".") if "." in amount else amount
    return f"{short or '0'} {currency}"


def size(count: int) -> str:
    """An amount of bytes."""
    amount, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"


class Screen:
    """The two streams of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.is_terminal = sys.stdout.isatty()
        self.may_ask = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
        """Whether there is somebody who could answer a question."""
        self.may_animate = sys.stderr.isatty() and not as_json
        self._out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def document(self, document: Any) -> None:
        """One JSON document on stdout."""
        sys.stdout.write(json_text(document) + "\n")

    def json_line(self, document: Any) -> None:
        """One JSON document on one line of stdout, at once: whoever reads a pipe waits for it."""
        sys.stdout.write(json_text(document, indent=None) + "\n")
        sys.stdout.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """A line of the answer."""
        if self.is_terminal:
            self._out.print(Text(clean(text), style=style))
        else:
            # Not by way of the console, which turns tabs into spaces.
            sys.stdout.write(clean(text) + "\n")

    def remark(self, text: str, style: str = "") -> None:
        """A line about the answer, on stderr; none with --json."""
        if not self.as_json:
            self.err.print(Text(clean(text), style=style))

    def fields(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, one pair a line."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            if self.is_terminal:
                self._out.print(Text.assemble((f"{name:<{width}}  ", "dim"), one_line(value)))
            else:
                self.line(f"{name}\t{one_line(value)}")

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: Sequence[str] = (),
        whole: Sequence[str] = (),
    ) -> None:
        """A table; the columns in `right` hold figures, and the cells of those in `whole` are not broken either."""
        if not self.is_terminal:
            for row in (columns, *rows):
                self.line("\t".join(one_line(cell) for cell in row))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            figures = column in right
            unbroken = figures or column in whole
            table.add_column(column, justify="right" if figures else "left", no_wrap=unbroken, overflow="fold")
        for row in rows:
            table.add_row(*(_cell(one_line(cell)) for cell in row))
        self._out.print(table, soft_wrap=False)

    def failure(self, failure: CommandError) -> None:
        """Why the command ends, on stderr: a problem document with --json, else a sentence and what to do next."""
        if self.as_json:
            sys.stderr.write(json_text(failure.document) + "\n")
            return
        self.err.print(Text.assemble(("error: ", "bold red"), clean(failure.detail)))
        if failure.hint:
            self.err.print(Text.assemble(("hint: ", "bold"), clean(failure.hint)))

    def ask_about(self, text: str, style: str = "") -> None:
        """A line of what a question is about; shown with --json too, since a person is there to answer."""
        self.err.print(Text(clean(text), style=style))

    def confirm(self, question: str) -> bool:
        """Ask for a yes on the terminal; anything else is a no."""
        self.err.print(Text(f"{clean(question)} [y/N] "), end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _cell(text: str) -> Text:
    return Text(text, style=STATE_STYLES.get(text, "red" if text == "!" else ""))
