"""Tables that fit the terminal without cutting an id or a figure.

Columns that may leave first go to a line of their own below each row; where the rest is still too wide, each row is
shown as a block with one field a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from memory_operator.client.terminal.format import cell_width, padded, wrapped

GAP = "  "
INDENT = "    "
SHORTEST_TEXT = 30
"""A column of running text is not made narrower than this."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table; all but `text` are never broken."""

    names: Sequence[str]
    figures: Sequence[str] = ()
    """Aligned to the right."""
    text: Sequence[str] = ()
    """Running text, which may be broken between words."""
    fold: Sequence[str] = ()
    """Columns that leave the table where it is too wide, the first of them first."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a line; `column` is empty for what only separates."""

    column: str
    value: str
    shown: str


def fit(columns: Columns, rows: Sequence[Sequence[str]], width: int) -> list[list[Cell]]:
    """The lines of a table for a terminal of so many columns; header cells are those whose value is their column."""
    records = [dict(zip(columns.names, row, strict=True)) for row in rows]
    kept = list(columns.names)
    for leaves in (None, *columns.fold):
        if leaves is not None:
            kept.remove(leaves)
        widths = _widths(columns, kept, records, width)
        if widths is not None:
            return _lines(columns, records, widths, width)
    return _blocks(columns, records, width)


def _widths(
    columns: Columns, kept: Sequence[str], records: Sequence[dict[str, str]], width: int
) -> dict[str, int] | None:
    """How wide each column becomes; None where they do not fit."""
    wanted = {name: max(cell_width(text) for text in (name, *(record[name] for record in records))) for name in kept}
    over = sum(wanted.values()) + len(GAP) * (len(kept) - 1) - width
    for name in columns.text:
        if over > 0 and name in wanted:
            narrower = max(min(wanted[name], SHORTEST_TEXT), wanted[name] - over)
            over -= wanted[name] - narrower
            wanted[name] = narrower
    return wanted if over <= 0 else None


def _lines(columns: Columns, records: Sequence[dict[str, str]], widths: dict[str, int], width: int) -> list[list[Cell]]:
    lines = [_line(columns, {name: name for name in widths}, widths, {})]
    for record in records:
        broken = {name: wrapped(record[name], widths[name]) for name in columns.text if name in widths}
        for index in range(max((len(parts) for parts in broken.values()), default=1)):
            parts = {name: part[index] if index < len(part) else "" for name, part in broken.items()}
            first = record if index == 0 else dict.fromkeys(record, "")
            lines.append(_line(columns, record, widths, {**first, **parts}))
        lines += [[Cell("", "", INDENT + part)] for part in _below(columns, record, widths, width - len(INDENT))]
    return lines


def _below(columns: Columns, record: dict[str, str], widths: dict[str, int], width: int) -> list[str]:
    """What has no column, side by side as far as it fits, and running text on lines of its own."""
    left = [name for name in columns.names if name not in widths and record[name] not in ("", "–")]
    short = [f"{name} {record[name]}" for name in left if name not in columns.text]
    long = [f"{name} {record[name]}" for name in left if name in columns.text]
    return _joined(short, width) + [line for text in long for line in wrapped(text, width)]


def _line(columns: Columns, record: dict[str, str], widths: dict[str, int], shown: dict[str, str]) -> list[Cell]:
    cells: list[Cell] = []
    for name, width in widths.items():
        if cells:
            cells.append(Cell("", "", GAP))
        text = shown.get(name, record[name])
        cells.append(Cell(name, record[name], padded(text, width, right=name in columns.figures)))
    return cells


def _joined(parts: Sequence[str], width: int) -> list[str]:
    """Parts side by side as far as they fit; a part that is longer than a line stands alone and whole."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_width(f"{lines[-1]}, {part}") <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _blocks(columns: Columns, records: Sequence[dict[str, str]], width: int) -> list[list[Cell]]:
    of_names = max(cell_width(name) for name in columns.names)
    lines: list[list[Cell]] = []
    for record in records:
        if lines:
            lines.append([])
        for name, value in record.items():
            parts = wrapped(value, width - of_names - len(GAP)) if name in columns.text else [value]
            for part, label in zip_longest(parts, [name], fillvalue=""):
                if label or part:
                    head = Cell(label, label, padded(label, of_names))
                    lines.append([head, Cell("", "", GAP), Cell(name, value, part)])
    return lines
