"""Two spaces that answer the same questions: asked a few at a time, and shown side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from memory_operator.client.errors import MisunderstoodError
from memory_operator.client.server import paths
from memory_operator.client.server.api import ApiClient
from memory_operator.client.server.comparison_schemas import (
    ComparedDocument,
    ComparedQuestionDocument,
    FoundDocument,
    SideDocument,
)
from memory_operator.client.server.reading import read
from memory_operator.client.terminal.console import Screen
from memory_operator.client.terminal.format import number, price
from memory_operator.client.terminal.table import Columns
from memory_operator.measuring.chance import ROUNDS, Mean
from memory_operator.measuring.measures import NDCG
from memory_operator.measuring.side_by_side import (
    FEW_QUESTIONS,
    WAYS,
    QuestionResult,
    SideFigures,
    SideResult,
    Summary,
    Times,
    WayFigures,
    as_json,
    summarise,
)

_AT_ONCE = 10
"""Questions of one request."""

_SIDES = Columns(
    ("SPACE", "EMBED p50 · p95", "SEARCH p50 · p95", "INDEX RECALL", "PER 1,000 QUERIES"),
    figures=("EMBED p50 · p95", "SEARCH p50 · p95", "INDEX RECALL", "PER 1,000 QUERIES"),
    fold=("PER 1,000 QUERIES", "INDEX RECALL"),
)
_ALIKE = Columns(("ANSWER", "OVERLAP", "95 %", "RANK AGREEMENT"), figures=("OVERLAP", "95 %", "RANK AGREEMENT"))
_GOOD = Columns(
    ("ANSWER, MEASURE", "FIRST", "SECOND", "CHANGE", "95 %", "P", "SECOND IS"),
    figures=("FIRST", "SECOND", "CHANGE", "95 %", "P"),
    fold=("P",),
)


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question, and the memories that are known to answer it."""

    text: str
    project: str
    grades: Mapping[str, int] | None = None
    """Of documents; None where nothing is judged."""
    memories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The memories that a judged document is; of others it is its own id."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found."""

    whole: ComparedDocument
    summary: Summary

    @property
    def document(self) -> dict[str, Any]:
        """As --json prints it."""
        sides = (self.whole.first, self.whole.second)
        return {
            "in_common": {name: getattr(self.whole.in_common, name) for name in ("both", "only_first", "only_second")},
            **{
                name: {
                    "name": side.name,
                    "provider": side.provider,
                    "model": side.model,
                    "dimensions": side.dimensions,
                    "state": side.state,
                    **_figures_json(figures),
                    "cost_per_1000_queries": _per_thousand(side, figures),
                }
                for name, side, figures in zip(("first", "second"), sides, self.summary.sides, strict=True)
            },
            **as_json(self.summary),
        }


def _figures_json(figures: SideFigures) -> dict[str, Any]:
    return {
        "embed_ms": None if figures.embed_ms is None else asdict(figures.embed_ms),
        "search_ms": asdict(figures.search_ms),
        "tokens_per_query": figures.tokens,
        "index_recall": None if figures.index_recall is None else asdict(figures.index_recall),
    }


def compare(
    api: ApiClient,
    names: tuple[str, str],
    questions: Sequence[JudgedQuestion],
    setting: tuple[int, int],
    documents: Mapping[str, str],
    tell: Callable[[int], None],
) -> Compared:
    """Ask both, and summarise. `setting` is k and seed; `documents` says which document a memory is.

    Raises CommandError.
    """
    k, seed = setting
    results: list[QuestionResult] = []
    whole: ComparedDocument | None = None
    left = list(questions)
    while left:
        some = [one for one in left[:_AT_ONCE] if one.project == left[0].project]
        answer = read(ComparedDocument, api.query(_body(names, some, k), paths.COMPARE))
        if not 0 < len(answer.answers) <= len(some):
            raise MisunderstoodError("the server's answer to a comparison was not understood")
        whole = whole or answer
        results += [_result(*pair, documents) for pair in zip(some, answer.answers, strict=False)]
        done = some[: len(answer.answers)]
        left = [one for one in left if not any(one is each for each in done)]
        tell(len(results))
    if whole is None:
        raise MisunderstoodError("there is no question to compare by")
    return Compared(whole, summarise(results, k, seed))


def _body(names: tuple[str, str], questions: Sequence[JudgedQuestion], k: int) -> dict[str, Any]:
    return {
        "first": names[0],
        "second": names[1],
        "project": questions[0].project,
        "k": k,
        "questions": [{"query": one.text, "judged": _judged(one)} for one in questions],
    }


def _judged(question: JudgedQuestion) -> list[str]:
    return [
        memory
        for document, grade in (question.grades or {}).items()
        if grade > 0
        for memory in question.memories.get(document, ())
    ]


def _result(question: JudgedQuestion, answer: ComparedQuestionDocument, documents: Mapping[str, str]) -> QuestionResult:
    gone = set(answer.missing)
    missing = [
        document
        for document, grade in (question.grades or {}).items()
        if grade > 0 and all(memory in gone for memory in question.memories.get(document, ()))
    ]
    sides = (_side(answer.first, documents), _side(answer.second, documents))
    return QuestionResult(sides, question.grades, missing)


def _side(found: FoundDocument, documents: Mapping[str, str]) -> SideResult:
    def named(memories: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(documents.get(memory, memory) for memory in memories))

    return SideResult(
        named(found.fused),
        named(found.semantic),
        None if found.whole is None else named(found.whole),
        found.embed_ms,
        found.search_ms,
        found.tokens,
        found.index_recall,
    )


def show(screen: Screen, compared: Compared) -> None:
    """The comparison, for people."""
    whole, summary = compared.whole, compared.summary
    common = whole.in_common
    screen.line(f"first   {_described(whole.first)}", "bold")
    screen.line(f"second  {_described(whole.second)}", "bold")
    screen.line(
        f"{number(summary.questions)} questions over {number(common.both)} chunks that both have, k = {summary.k}"
    )
    if common.only_first or common.only_second:
        screen.remark(
            f"left out: {number(common.only_first)} chunks that the first has alone, and"
            f" {number(common.only_second)} of the second"
        )
    screen.line()
    screen.table(
        _SIDES,
        [_side_row(side, figures) for side, figures in zip((whole.first, whole.second), summary.sides, strict=True)],
    )
    screen.line()
    screen.table(
        _ALIKE,
        [
            (way, _figure(summary.overlap[way]), _interval(summary.overlap[way]), _figure(summary.agreement[way]))
            for way in WAYS
        ],
    )
    _show_judged(screen, compared)


def _show_judged(screen: Screen, compared: Compared) -> None:
    judged, k = compared.summary.judged, compared.summary.k
    if judged is None:
        screen.remark(
            "overlap says how alike the answers are, not which are better: see --judged and --sample for that"
        )
        return
    screen.line()
    screen.table(_GOOD, [row for way in WAYS for row in _way_rows(way, judged.ways[way], k)])
    screen.line()
    screen.line(_sentence(compared))
    if judged.predicted is not None and judged.whole is not None:
        screen.line(
            f"With all that the first has, {NDCG} is {_figure(judged.whole)} for the first, and about"
            f" {_figure(judged.predicted)} ({_interval(judged.predicted)}) for the second once it is filled."
        )
    if judged.left_out:
        screen.remark(f"{number(judged.left_out)} questions are left out: no chunk of their answers is in both")
    if judged.questions < FEW_QUESTIONS:
        screen.remark(f"{number(judged.questions)} questions are few: with more of them less is chance.")


def _described(side: SideDocument) -> str:
    model = f"{side.model}, " if side.model else ""
    length = f", {side.dimensions} dimensions" if side.dimensions else ""
    return f"{side.name} of {side.provider} ({model}{side.state}{length})"


def _side_row(side: SideDocument, figures: SideFigures) -> tuple[str, ...]:
    return (
        side.name,
        _milliseconds(figures.embed_ms),
        _milliseconds(figures.search_ms),
        "–" if figures.index_recall is None else _figure(figures.index_recall),
        price(_per_thousand(side, figures)),
    )


def _per_thousand(side: SideDocument, figures: SideFigures) -> str | None:
    """What a thousand such questions cost; None where the Provider declares no price."""
    if side.input_cost_per_1k is None:
        return None
    return f"{Decimal(side.input_cost_per_1k) * Decimal(str(round(figures.tokens, 3))):f}"


def _way_rows(way: str, figures: WayFigures, k: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, both, comparison in (
        (NDCG, figures.ndcg, figures.ndcg_difference),
        (f"MRR@{k}", figures.rr, figures.rr_difference),
    ):
        difference = comparison.difference
        likely = f"< {1 / ROUNDS:g}" if comparison.p < 1 / ROUNDS else f"{comparison.p:.3f}"
        interval = f"{difference.low:+.3f} … {difference.high:+.3f}"
        figures_of = (_figure(both[0]), _figure(both[1]), f"{difference.mean:+.3f}")
        rows.append((f"{way} {name}", *figures_of, interval, likely, comparison.verdict))
    return rows


def _sentence(compared: Compared) -> str:
    judged = compared.summary.judged
    assert judged is not None
    comparison = judged.ways["fused"].ndcg_difference
    by, whole = abs(comparison.difference.mean), compared.whole
    if comparison.verdict == "no more than chance":
        return f"{whole.second.name} differs from {whole.first.name} by {by:.3f} {NDCG}: no more than chance."
    return f"{whole.second.name} is {comparison.verdict} than {whole.first.name} by {by:.3f} {NDCG}: more than chance."


def _figure(mean: Mean) -> str:
    return f"{mean.mean:.3f}"


def _interval(mean: Mean) -> str:
    return f"{mean.low:.3f} … {mean.high:.3f}"


def _milliseconds(times: Times | None) -> str:
    return "–" if times is None else f"{times.p50:.1f} · {times.p95:.1f} ms"
