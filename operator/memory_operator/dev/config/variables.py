"""The file of variables beside a configuration file: NAME=value, a line each."""

from __future__ import annotations

import re

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_COMMENT = re.compile(r"\s+#.*")


def parse_variables(text: str) -> tuple[dict[str, tuple[int, str]], list[int]]:
    """Line and value of each variable, the last one of a name, and the lines that are none.

    A value may be in quotes; without them it ends before ` #`.
    """
    found: dict[str, tuple[int, str]] = {}
    unreadable = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith(("#", ";")):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            unreadable.append(number)
        else:
            found[match[1]] = (number, _value(match[2]))
    return found, unreadable


def _value(text: str) -> str:
    quoted = re.fullmatch(r"""(["'])(.*?)\1(\s+#.*)?""", text)
    return quoted[2] if quoted else _COMMENT.sub("", text).strip()
