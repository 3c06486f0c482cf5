"""What an evaluation found: as a document, and as tables and sentences for 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from memory_operator.client.evaluation.judged_set import JudgedSet
from memory_operator.client.evaluation.ways import Rankings
from memory_operator.client.terminal.console import Screen
from memory_operator.client.terminal.format import number
from memory_operator.client.terminal.table import Columns
from memory_operator.measuring import measures
from memory_operator.measuring.chance import ROUNDS, Comparison, Mean, compared, mean_of

_AGAINST = Columns(
    ("DEFAULT AGAINST", "nDCG@10", "95 %", "P", "IS"), figures=("nDCG@10", "95 %", "P"), text=("DEFAULT AGAINST",)
)

_MEANS = {"R": "recall", "RR": "MRR", "AP": "MAP"}
_FEW = 50
"""Questions, below which a difference that matters is seldom told from chance."""


@dataclass(frozen=True, slots=True)
class WayResult:
    """How one way did."""

    way: str
    values: Mapping[str, Mapping[str, float]]
    """Measures of each question."""
    means: Mapping[str, Mean]
    short: Mapping[str, int]

    def of(self, measure: str) -> list[float]:
        """One measure, question by question."""
        return [values[measure] for values in self.values.values()]


@dataclass(frozen=True, slots=True)
class Setting:
    """How it was measured."""

    project: str
    k: int
    seed: int


@dataclass(frozen=True, slots=True)
class SetResult:
    """How all ways did on one set; the first one is the default."""

    judged: JudgedSet
    setting: Setting
    ways: Sequence[WayResult]
    comparisons: Mapping[str, Comparison]
    """The default against each other way, by nDCG@10."""
    remarks: list[str] = field(default_factory=list)

    @property
    def document(self) -> dict[str, Any]:
        """As --json prints it, and as --gate-against reads it."""
        return {
            "name": self.judged.name,
            **asdict(self.setting),
            "questions": len(self.judged.questions),
            "documents": len(self.judged.documents) or None,
            "ways": [
                {
                    "way": one.way,
                    "measures": {name: asdict(mean) for name, mean in one.means.items()},
                    "incomplete_answers": dict(one.short),
                    "by_question": one.values,
                }
                for one in self.ways
            ],
            "comparisons": [
                {"way": self.ways[0].way, "against": name, "measure": measures.NDCG, **_as_json(one)}
                for name, one in self.comparisons.items()
            ],
            "remarks": self.remarks,
        }


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {"difference": asdict(comparison.difference), "p": comparison.p, "verdict": comparison.verdict}


def evaluate(judged: JudgedSet, found: Sequence[Rankings], documents: Mapping[str, str], setting: Setting) -> SetResult:
    """Measure and compare rankings; `documents` says which document a memory is."""
    ways = []
    for rankings in found:
        values = {
            question: measures.measured(_documents(ranking, documents), judged.judgements[question], setting.k)
            for question in judged.questions
            for ranking in [rankings.by_question[question]]
        }
        means = {
            name: mean_of([one[name] for one in values.values()], setting.seed) for name in measures.names(setting.k)
        }
        ways.append(WayResult(rankings.way.name, values, means, rankings.short))
    first = ways[0].of(measures.NDCG)
    comparisons = {one.way: compared(first, one.of(measures.NDCG), setting.seed) for one in ways[1:]}
    return SetResult(judged, setting, ways, comparisons, [_short(one) for one in ways if one.short])


def _documents(ranking: Sequence[str], documents: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(documents.get(memory, memory) for memory in ranking))


def _short(one: WayResult) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(one.short.items()))
    return f"{one.way}: answers that a channel, vectors or re-ranking are missing from: {reasons}"


def show(screen: Screen, result: SetResult) -> None:
    """The result of one set, for people."""
    judged, setting = result.judged, result.setting
    documents = f", {number(len(judged.documents))} documents" if judged.documents else ""
    screen.line(f"{judged.name}: {number(len(judged.questions))} questions{documents}, k = {setting.k}", "bold")
    names = measures.names(setting.k)
    first_heading, *headings = (_heading(name) for name in names)
    figures = (first_heading, "95 %", *headings)
    columns = Columns(("WAY", *figures), figures=figures, text=("WAY",))
    rows = []
    for one in result.ways:
        first, *rest = (one.means[name] for name in names)
        rows.append((one.way, _figure(first.mean), _interval(first), *(_figure(mean.mean) for mean in rest)))
    screen.table(columns, rows)
    screen.line()
    screen.table(_AGAINST, [_row(name, one) for name, one in result.comparisons.items()])
    screen.line()
    screen.line(_sentence(result))
    if len(judged.questions) < _FEW:
        screen.remark(f"{number(len(judged.questions))} questions are few: with more of them less is chance.")
    for remark in result.remarks:
        screen.remark(remark)


def _heading(measure: str) -> str:
    """A measure by the name that its mean has."""
    name, at, depth = measure.partition("@")
    return f"{_MEANS.get(name, name)}{at}{depth}"


def _row(name: str, one: Comparison) -> tuple[str, ...]:
    difference = one.difference
    likely = f"< {1 / ROUNDS:g}" if one.p < 1 / ROUNDS else f"{one.p:.3f}"
    interval = f"{difference.low:+.3f} … {difference.high:+.3f}"
    return (name, f"{difference.mean:+.3f}", interval, likely, one.verdict)


def _sentence(result: SetResult) -> str:
    """Which answer is better, by how much, and whether that is more than chance."""
    if not result.comparisons:
        return "There is one way of looking alone: no space of vectors is active."
    best = max(result.ways, key=lambda one: one.means[measures.NDCG].mean)
    if best is result.ways[0]:
        rival = max(result.ways[1:], key=lambda one: one.means[measures.NDCG].mean)
        comparison, gain = result.comparisons[rival.way], "ahead of"
    else:
        rival, comparison, gain = best, result.comparisons[best.way], "behind"
    by = abs(comparison.difference.mean)
    sure = "no more than chance" if comparison.verdict == "no more than chance" else "more than chance"
    return f"The default is {gain} {rival.way} by {by:.3f} nDCG@10: {sure}."


def _figure(value: float) -> str:
    return f"{value:.3f}"


def _interval(mean: Mean) -> str:
    return f"{mean.low:.3f} … {mean.high:.3f}"
