"""A sample of real texts that is on every machine with Python: the documentation inside its standard library.

Read from the sources, without importing them, so that nothing of them runs. Deterministic for one Python version.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MIN_CHARS = 80
MAX_CHARS = 1_500
MAX_TEXTS = 2_000

MODULES = (
    *("argparse", "array", "ast", "asyncio", "base64", "bdb", "bisect", "bz2", "calendar", "cmd", "code", "codecs"),
    *("collections", "colorsys", "compileall", "concurrent", "configparser", "contextlib", "contextvars", "copy"),
    *("csv", "ctypes", "curses", "dataclasses", "datetime", "dbm", "decimal", "difflib", "dis", "doctest", "email"),
    *("enum", "filecmp", "fileinput", "fnmatch", "fractions", "ftplib", "functools", "getopt", "getpass", "gettext"),
    *("glob", "graphlib", "gzip", "hashlib", "heapq", "hmac", "html", "http", "imaplib", "importlib", "inspect", "io"),
    *("ipaddress", "json", "linecache", "locale", "logging", "lzma", "mailbox", "mimetypes", "multiprocessing"),
    *("netrc", "numbers", "operator", "optparse", "os", "pathlib", "pdb", "pickle", "pickletools", "pkgutil"),
    *("platform", "plistlib", "poplib", "pprint", "profile", "pstats", "pyclbr", "pydoc", "queue", "quopri", "random"),
    *("re", "reprlib", "rlcompleter", "runpy", "sched", "secrets", "selectors", "shelve", "shlex", "shutil", "signal"),
    *("smtplib", "socket", "socketserver", "sqlite3", "ssl", "stat", "statistics", "string", "struct", "subprocess"),
    *("symtable", "sysconfig", "tabnanny", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize"),
    *("trace", "traceback", "tracemalloc", "types", "typing", "unittest", "urllib", "uuid", "venv", "warnings"),
    *("wave", "weakref", "webbrowser", "wsgiref", "xml", "xmlrpc", "zipapp", "zipfile", "zoneinfo"),
)
"""Modules and packages in all supported versions. One that is missing, as where Python came in parts, is skipped."""

_LEFT_OUT = frozenset({"test", "tests", "__pycache__", "_vendor"})


@dataclass(frozen=True, slots=True)
class SampleText:
    """A text to store."""

    text: str
    """MIN_CHARS to MAX_CHARS characters."""
    source: str
    """Where it is from, such as `python:json.dumps`; no two texts have the same."""
    tags: tuple[str, ...]


def sample_texts(limit: int = MAX_TEXTS) -> Iterator[SampleText]:
    """At most `limit` texts, always the same ones in the same order; well over 1,000 where Python is complete.

    Modules come before their classes and functions, and those before methods, so that a limit leaves out details.
    """
    general_first = sorted(_unique(_all_texts()), key=lambda text: (text.source.count("."), "#" in text.source))
    return islice(general_first, limit)


def _all_texts() -> Iterator[SampleText]:
    library = Path(sysconfig.get_path("stdlib"))
    yield from _topics(library / "pydoc_data" / "topics.py")
    for module in MODULES:
        for path in _files(library, module):
            yield from _docstrings(path, _module_name(library, path))


def _unique(texts: Iterator[SampleText]) -> Iterator[SampleText]:
    """Each source and each text once."""
    sources: set[str] = set()
    seen: set[str] = set()
    for text in texts:
        body = text.text.partition(": ")[2]
        if text.source not in sources and body not in seen:
            sources.add(text.source)
            seen.add(body)
            yield text


def _files(library: Path, module: str) -> list[Path]:
    if (library / f"{module}.py").is_file():
        return [library / f"{module}.py"]
    found = (library / module).rglob("*.py")
    return sorted(path for path in found if not _LEFT_OUT & set(path.relative_to(library).parts))


def _module_name(library: Path, path: Path) -> str:
    parts = path.relative_to(library).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _tree(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _topics(path: Path) -> Iterator[SampleText]:
    """The chapters of the language reference that `help()` shows: a dict of texts in a module that is only data."""
    tree = _tree(path) if path.is_file() else None
    for statement in tree.body if tree else ():
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(statement.value)
            for name, text in sorted(topics.items()):
                yield from _pieces(f"help({name!r})", text, f"python:help/{name}", ("python", "language", name))


def _docstrings(path: Path, module: str) -> Iterator[SampleText]:
    tree = _tree(path)
    if tree is None:
        return
    top = module.partition(".")[0]
    for name, node in _documented(tree, module):
        text = ast.get_docstring(node)
        if text:
            yield from _pieces(name, text, f"python:{name}", ("python", "library", top, _kind(node)))


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _kind(node: _Documented) -> str:
    return {ast.Module: "module", ast.ClassDef: "class"}.get(type(node), "function")


def _documented(node: _Documented, name: str) -> Iterator[tuple[str, _Documented]]:
    """The node and all public classes and functions in it, in the order of the source."""
    yield name, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
            yield from _documented(child, f"{name}.{child.name}")


def _pieces(title: str, text: str, source: str, tags: tuple[str, ...]) -> Iterator[SampleText]:
    """The text under its title, cut at paragraphs where it is too long. What is too short is left out."""
    room = MAX_CHARS - len(title) - 2
    pieces = [""]
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if pieces[-1] and len(pieces[-1]) + 2 + len(paragraph) > room:
            pieces.append("")
        pieces[-1] = f"{pieces[-1]}\n\n{paragraph[:room]}".strip("\n")
    for number, piece in enumerate(pieces, 1):
        if len(whole := f"{title}: {piece}") >= MIN_CHARS:
            yield SampleText(whole, source if number == 1 else f"{source}#{number}", tags)
