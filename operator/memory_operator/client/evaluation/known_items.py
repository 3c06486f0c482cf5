"""Known items of one's own memories, as a judged set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from memory_operator.client.errors import CommandError
from memory_operator.client.evaluation.judged_set import JudgedSet
from memory_operator.measuring import known_items as items
from memory_operator.measuring.known_items import FEWEST_WORDS

SHOWS = (
    "This shows whether memories are found again by some of their own words, and whether a change made that worse.",
    "It cannot show how well questions in other words are answered, and it favours full-text: see --judged for that.",
)


def known_items(memories: Iterable[Mapping[str, Any]], count: int, seed: int, name: str) -> JudgedSet:
    """Questions about `count` memories, or all where there are fewer. Raises CommandError where there are none."""
    texts = {str(memory["id"]): str(memory.get("text") or "") for memory in memories}
    found = items.known_items(texts, count, seed)
    if not found:
        raise CommandError(
            f"project {name} has no memory of {FEWEST_WORDS} words or more", "name another one with --project"
        )
    return JudgedSet(
        name,
        {},
        {one.name: one.question for one in found},
        {one.name: dict.fromkeys(one.answers, 1) for one in found},
    )
