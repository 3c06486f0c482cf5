"""Known items: questions made from one's own memories, each answered by the memory that its words are from."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memory_operator.client.errors import CommandError
from memory_operator.client.evaluation.judged_set import JudgedSet

SHOWS = (
    "This shows whether memories are found again by some of their own words, and whether a change made that worse.",
    "It cannot show how well questions in other words are answered, and it favours full-text: see --judged for that.",
)

_WORDS = 6
_FEWEST_WORDS = 3
_CHARACTERS = 10
"""Of a text without spaces between its words."""

_SENTENCE = re.compile(r"[^.!?。！？؟\n]+")
_WORD = re.compile(r"[^\W_]{2,}")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{4,}")


def known_items(memories: Iterable[Mapping[str, Any]], count: int, seed: int, name: str) -> JudgedSet:
    """Questions about `count` memories, or all where there are fewer. Raises CommandError where there are none."""
    rng = random.Random(seed)
    texts: dict[str, str] = {}
    equal: dict[bytes, list[str]] = {}
    frequency: Counter[str] = Counter()
    for memory in memories:
        text = str(memory.get("text") or "")
        texts[str(memory["id"])] = text
        equal.setdefault(_digest(text), []).append(str(memory["id"]))
        frequency.update(set(_words(text)))
    questions: dict[str, str] = {}
    for memory_id in rng.sample(sorted(texts), len(texts)):
        question = _question(texts[memory_id], frequency, rng)
        if question:
            questions[memory_id] = question
        if len(questions) == count:
            break
    if not questions:
        raise CommandError(
            f"project {name} has no memory of {_FEWEST_WORDS} words or more", "name another one with --project"
        )
    judgements = {one: dict.fromkeys(equal[_digest(texts[one])], 1) for one in questions}
    return JudgedSet(name, {}, questions, judgements)


def _digest(text: str) -> bytes:
    return hashlib.sha256(" ".join(text.split()).encode(errors="replace")).digest()


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _question(text: str, frequency: Mapping[str, int], rng: random.Random) -> str | None:
    """The rarer words of one sentence, in their order; of a text without spaces a piece."""
    unspaced: Sequence[str] = _UNSPACED.findall(text)
    if unspaced:
        piece = rng.choice(unspaced)
        start = rng.randrange(max(1, len(piece) - _CHARACTERS + 1))
        return piece[start : start + _CHARACTERS]
    sentences = [words for found in _SENTENCE.findall(text) if len(words := _words(found)) >= _FEWEST_WORDS]
    words = rng.choice(sentences) if sentences else _words(text)
    if len(words) < _FEWEST_WORDS:
        return None
    # The rarer a word, the likelier somebody remembers it; a draw, so that not every question is the easiest one.
    drawn = sorted(range(len(words)), key=lambda index: rng.random() ** (frequency[words[index]] ** 0.5))
    return " ".join(words[index] for index in sorted(drawn[-_WORDS:]))
