"""No test asserts on elapsed time, and every wait says what it waits for: a busy machine is no defect."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
EXEMPT = {
    "fixtures/waiting.py": "the deadlines of all waits",
    "fixtures/promise.py": "tells the state of a whole sequence where it does not come to rest",
    "bench": "makes figures, and tests nothing",
}
CLOCKS = {"monotonic", "perf_counter"}
"""Of the module time. `time` is one too, as time.time and as the method of an event loop."""
WAITS = {"until", "eventually", "ends"}


def _is_exempt(path: Path) -> bool:
    below = path.relative_to(TESTS)
    return str(below) in EXEMPT or below.parts[0] in EXEMPT


SOURCES = sorted(each for each in TESTS.rglob("*.py") if not _is_exempt(each))


def _reads_a_clock(call: ast.Call) -> bool:
    """Whether this is time.monotonic(), perf_counter(), loop.time() or one of their kind."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in CLOCKS or (name == "time" and not call.args)


def _is_now(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("now", "utcnow")


class Elapsed:
    """Which names of a module hold something that was read from a clock, or return it."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: set[str] = set()
        self.now: set[str] = set()
        known = -1
        while known != len(self.names) + len(self.now):  # a name may be made of one that comes later
            known = len(self.names) + len(self.now)
            for node in ast.walk(tree):
                self._learn(node)

    def measures(self, node: ast.AST) -> bool:
        """Whether an expression depends on time that has passed."""
        for each in ast.walk(node):
            if isinstance(each, ast.Call) and _reads_a_clock(each):
                return True
            if isinstance(each, ast.Name) and each.id in self.names:
                return True
            if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub) and self._is_span(each):
                return True
        return False

    def _is_span(self, node: ast.BinOp) -> bool:
        """Whether now is subtracted from a moment, or a moment from now, and not a given span."""
        given = isinstance(node.right, ast.Call) and getattr(node.right.func, "id", "") == "timedelta"
        return not given and any(map(self._holds_now, (node.left, node.right)))

    def _holds_now(self, node: ast.expr) -> bool:
        return _is_now(node) or (isinstance(node, ast.Name) and node.id in self.now)

    def _learn(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                self._hold(targets, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
                self._hold([target], value)
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="append"), args=[value]):
                self._hold([name], value)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                answers = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
                if any(map(self.measures, answers)):
                    self.names.add(name)

    def _hold(self, targets: list[ast.expr], value: ast.expr) -> None:
        parts = [part for target in targets if not isinstance(target, ast.Attribute) for part in ast.walk(target)]
        names = {part.id for part in parts if isinstance(part, ast.Name)}
        if self.measures(value):
            self.names |= names
        elif _is_now(value):
            self.now |= names


def asserts_on_time(source: str) -> list[int]:
    """The lines of asserts that compare time that has passed."""
    if not re.search(r"monotonic|perf_counter|time\(\)|now\(", source):
        return []
    tree = ast.parse(source)
    elapsed = Elapsed(tree)
    tests = [each.test for each in ast.walk(tree) if isinstance(each, ast.Assert)]
    compared = [each for test in tests for each in ast.walk(test) if isinstance(each, ast.Compare)]
    return sorted({each.lineno for each in compared if elapsed.measures(each)})


def waits_without_words(source: str) -> list[int]:
    """The lines of waits that do not say what they wait for."""
    found = []
    for each in ast.walk(ast.parse(source)):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in WAITS:
            named = [keyword.value for keyword in each.keywords if keyword.arg == "what"]
            what = next(iter([*each.args[1:2], *named]), None)
            sentence = isinstance(what, ast.Constant) and isinstance(what.value, str)
            if not sentence and not isinstance(what, ast.JoinedStr | ast.Name):
                found.append(each.lineno)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_asserts_on_time_that_has_passed(path: Path) -> None:
    source = path.read_text()
    assert asserts_on_time(source) == []
    assert waits_without_words(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "assert time.monotonic() - began < 2",
        "took = time.perf_counter() - began\nassert took < 2",
        "worst = max(worst, loop.time() - began)\nassert worst < 1",
        "took.append(monotonic() - began)\nassert sorted(took)[10] < 1",
        "def end():\n    return time.time() - began\nassert end() < 5",
        "outcome['seconds'] = time.monotonic() - began\nassert outcome['seconds'] < 5",
        "assert datetime.now(UTC) - since < timedelta(minutes=1)",
        "now = datetime.now(UTC)\nleft = end - now\nassert left < timedelta(minutes=1)",
    ],
)
def test_an_assert_on_time_that_has_passed_is_seen(source: str) -> None:
    assert asserts_on_time(source) == [source.count("\n") + 1]


@pytest.mark.parametrize(
    "source",
    [
        "began = time.thread_time()\nassert time.thread_time() - began < 2",
        "before = datetime.now(UTC)\nassert before <= created <= datetime.now(UTC)",
        "assert certificate.not_valid_after > datetime.now(UTC) + timedelta(days=3640)",
    ],
)
def test_time_of_the_processor_and_the_order_of_moments_may_be_asserted(source: str) -> None:
    assert asserts_on_time(source) == []


@pytest.mark.parametrize("source", ["until(lambda: done)", "until(done, 5)", "eventually(done, seconds=5)"])
def test_a_wait_without_words_is_seen(source: str) -> None:
    assert waits_without_words(source) == [1]
