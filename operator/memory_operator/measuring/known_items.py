"""Known items: questions made from stored texts, each answered by the text that its words are from."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FEWEST_WORDS = 3
"""Of a text that a question can be made of."""

_WORDS = 6
_CHARACTERS = 10
"""Of a text without spaces between its words."""

_SENTENCE = re.compile(r"[^.!?。！？؟\n]+")
_WORD = re.compile(r"[^\W_]{2,}")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{4,}")


class KnownItem(NamedTuple):
    """A question, and the texts that answer it, by their names: the one that it is from, and those that equal it."""

    name: str
    question: str
    answers: Sequence[str]


def known_items(texts: Mapping[str, str], count: int, seed: int) -> list[KnownItem]:
    """Questions about `count` of some texts, by name, or about all of which one can be made where those are fewer."""
    rng = random.Random(seed)
    equal: dict[bytes, list[str]] = {}
    frequency: Counter[str] = Counter()
    for name, text in texts.items():
        equal.setdefault(_digest(text), []).append(name)
        frequency.update(set(_words(text)))
    items: list[KnownItem] = []
    for name in rng.sample(sorted(texts), len(texts)):
        question = _question(texts[name], frequency, rng)
        if question:
            items.append(KnownItem(name, question, equal[_digest(texts[name])]))
        if len(items) == count:
            break
    return items


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
    sentences = [words for found in _SENTENCE.findall(text) if len(words := _words(found)) >= FEWEST_WORDS]
    words = rng.choice(sentences) if sentences else _words(text)
    if len(words) < FEWEST_WORDS:
        return None
    # The rarer a word, the likelier somebody remembers it; a draw, so that not every question is the easiest one.
    drawn = sorted(range(len(words)), key=lambda index: rng.random() ** (frequency[words[index]] ** 0.5))
    return " ".join(words[index] for index in sorted(drawn[-_WORDS:]))
