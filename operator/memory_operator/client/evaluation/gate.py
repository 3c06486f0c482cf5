"""Whether answers are good enough: above a figure, or no worse than an earlier evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memory_operator.client.errors import MisuseError
from memory_operator.client.evaluation.report import SetResult
from memory_operator.measuring.chance import compared
from memory_operator.measuring.measures import NDCG

Earlier = Mapping[str, Mapping[str, float]]
"""The default's nDCG@10 by question, by set."""

_HINT = "it is a file that `memory eval --json` wrote"


def read_earlier(path: Path) -> Earlier:
    """What --json printed at an earlier time. Raises MisuseError."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(one["name"]): {
                str(question): float(values[NDCG]) for question, values in one["ways"][0]["by_question"].items()
            }
            for one in document["sets"]
        }
    except OSError as error:
        raise MisuseError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise MisuseError(f"{path} is no evaluation", _HINT) from error


def below(results: Sequence[SetResult], least: float) -> list[str]:
    """What is below a figure, a sentence for each set."""
    means = [(one.judged.name, one.ways[0].means[NDCG].mean) for one in results]
    return [f"{name}: nDCG@10 {mean:.4f} is below {least:g}" for name, mean in means if mean < least]


def worse(results: Sequence[SetResult], earlier: Earlier, path: Path) -> list[str]:
    """What is worse than it was by more than chance, a sentence for each set.

    The same questions are compared; those that one of both does not have are left out. Raises MisuseError where there
    is none.
    """
    found = []
    for one in results:
        before, now = earlier.get(one.judged.name, {}), one.ways[0].values
        common = sorted(before.keys() & now.keys())
        if not common:
            raise MisuseError(f"{path} has no question of {one.judged.name}", f"{_HINT}, about the same set")
        comparison = compared(
            [now[question][NDCG] for question in common], [before[question] for question in common], one.setting.seed
        )
        if comparison.verdict == "worse":
            by = -comparison.difference.mean
            found.append(f"{one.judged.name}: nDCG@10 is {by:.4f} worse than in {path} (p = {comparison.p:.3f})")
    return found
