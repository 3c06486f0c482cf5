"""Values as people read them, and foreign text without anything that could steer a terminal."""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from datetime import datetime
from typing import Any

# C0 without newline and tab, DEL, C1, and the characters that turn the direction of writing around.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ESCAPED_IN_JSON = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


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


def cell_width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A text filled up with spaces to so many columns."""
    space = " " * max(0, width - cell_width(text))
    return space + text if right else text + space


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, at most so many columns wide each, broken between words where that is possible."""
    if text.isascii():
        return textwrap.wrap(text, max(1, width), break_on_hyphens=False) or [""]
    lines = [""]
    for word in text.split():
        candidate = f"{lines[-1]} {word}".lstrip()
        if cell_width(candidate) <= width:
            lines[-1] = candidate
            continue
        lines.append("")
        for character in word:
            if cell_width(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return [line for line in lines if line] or [""]
