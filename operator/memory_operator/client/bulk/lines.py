"""Texts to add, read from a file a line at a time, and sets of line numbers to take a run up again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from memory_operator.client.errors import MisuseError

RowFormat = Literal["lines", "jsonl"]
MAX_LINE_BYTES = 1 << 20
"""The server takes no larger request, so no longer line is kept in memory."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what to send, or why it cannot be sent."""

    line: int
    """Counted from 1, blank lines included."""
    body: dict[str, Any]
    fault: str = ""


class LineSet:
    """Line numbers, written as 3,7-9,40-: ranges that are closed, or open at the end."""

    def __init__(self, ranges: Iterable[tuple[int, int | None]]) -> None:
        merged: list[tuple[int, int | None]] = []
        for first, last in sorted(ranges, key=lambda pair: pair[0]):
            if merged and (merged[-1][1] is None or first <= merged[-1][1] + 1):
                before = merged[-1][1]
                end = None if before is None or last is None else max(before, last)
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((first, last))
        self._ranges = tuple(merged)

    @classmethod
    def parse(cls, text: str) -> LineSet:
        """Read the written form. Raises MisuseError."""
        ranges: list[tuple[int, int | None]] = []
        for part in text.split(","):
            first, dash, last = (piece.strip() for piece in part.partition("-"))
            if not first.isdecimal() or (last and not last.isdecimal()) or int(first) < 1:
                raise MisuseError(f"{part.strip()!r} is not a line number or a range of them", "such as 3,7-9,40-")
            if last and int(last) < int(first):
                raise MisuseError(f"the range {part.strip()} runs backwards")
            ranges.append((int(first), None if dash and not last else int(last or first)))
        return cls(ranges)

    @classmethod
    def of(cls, lines: Iterable[int]) -> LineSet:
        """The set of these lines."""
        return cls((line, line) for line in lines)

    def since(self, line: int) -> LineSet:
        """Those from this line on."""
        later = ((first, last) for first, last in self._ranges if last is None or last >= line)
        return LineSet((max(first, line), last) for first, last in later)

    def __or__(self, other: LineSet) -> LineSet:
        return LineSet((*self._ranges, *other._ranges))

    def __contains__(self, line: int) -> bool:
        return any(first <= line and (last is None or line <= last) for first, last in self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __str__(self) -> str:
        return ",".join(
            f"{first}-" if last is None else str(first) if first == last else f"{first}-{last}"
            for first, last in self._ranges
        )


EVERY_LINE = LineSet([(1, None)])


def format_of(path: Path) -> RowFormat:
    """What a file's name says about its lines."""
    return "jsonl" if path.suffix.lower() in (".jsonl", ".ndjson") else "lines"


def count_lines(path: Path) -> int:
    """How many lines a regular file has, for a progress bar. Raises MisuseError."""
    try:
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) + 1
    except OSError as error:
        raise MisuseError(f"{path} cannot be read: {error.strerror}") from error


def read_rows(file: BinaryIO, row_format: RowFormat, wanted: LineSet = EVERY_LINE) -> Iterator[Row]:
    """The wanted rows of a file in UTF-8, without the blank lines."""
    for line, content in _lines(file):
        if line not in wanted:
            continue
        if content is None:
            yield Row(line, {}, f"longer than {MAX_LINE_BYTES:,} bytes")
            continue
        try:
            text = content.decode("utf-8-sig" if line == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            yield Row(line, {}, "not UTF-8")
            continue
        if text:
            yield Row(line, {"text": text}) if row_format == "lines" else _object(line, text)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; None for one that is too long, which is read past and not kept."""
    line = 0
    while content := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        too_long = len(content) > MAX_LINE_BYTES
        rest = content
        while too_long and rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)
        yield line, None if too_long else content


def _object(line: int, text: str) -> Row:
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        return Row(line, {}, f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return Row(line, {}, "JSON nested too deeply")
    if not isinstance(body, dict):
        return Row(line, {}, "not a JSON object")
    if not isinstance(body.get("text"), str):
        return Row(line, {}, "no text in field `text`")
    return Row(line, body)
