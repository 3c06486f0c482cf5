"""Texts whose words are as unevenly frequent as those of a language: full-text figures mean nothing without that."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Generic, TypeVar

from memory_operator.dev.corpus import sample_texts

WORDS_PER_TEXT = 18
TOPICS, WORDS_PER_TOPIC = 500, 60
VOCABULARY = 20_000
COMMON_WORDS = 40
_ALL_TEXTS = 1_000_000
_WORD = re.compile("[a-z]+")

T = TypeVar("T")


Words = Sequence[tuple[str, float]]
"""Each with how often it comes, the most frequent first."""


class Writer:
    """Writes texts of about 120 characters; the same ones for the same seed."""

    def __init__(self, choose: random.Random, words: Words | None = None) -> None:
        """Of `invented` words, each by chance; where words are given, half of a text are those of its topic."""
        self._choose = choose
        self._words = _Chance(invented() if words is None else words)
        self._topics = None if words is None else _topics(words)

    def texts(self, count: int) -> list[str]:
        """So many new texts."""
        return [" ".join(self._text()) for _ in range(count)]

    def _text(self) -> list[str]:
        if self._topics is None:
            return self._words.some(self._choose, WORDS_PER_TEXT)
        [topic] = self._topics.some(self._choose, 1)
        of_topic = self._choose.choices(topic, k=WORDS_PER_TEXT // 2)
        return [*of_topic, *self._words.some(self._choose, WORDS_PER_TEXT - len(of_topic))]


class _Chance(Generic[T]):
    """Things with how often each comes."""

    def __init__(self, things: Sequence[tuple[T, float]]) -> None:
        self._things = [thing for thing, _ in things]
        self._weights = list(itertools.accumulate(often for _, often in things))

    def some(self, choose: random.Random, count: int) -> list[T]:
        return choose.choices(self._things, cum_weights=self._weights, k=count)


def _topics(words: Words) -> _Chance[list[str]]:
    """Topics of uneven size, always the same ones; over all of them words come as often as they are said to."""
    makes, all_words = random.Random(2), _Chance(words)
    return _Chance([(all_words.some(makes, WORDS_PER_TOPIC), 1 / (number + 10)) for number in range(TOPICS)])


@cache
def invented() -> Words:
    """Words of no language, frequent by Zipf's law, none of which full-text search leaves out."""
    makes = random.Random(1)
    words = [
        "".join(makes.choice("bcdfghklmnprst") + makes.choice("aeiou") for _ in range(makes.randint(2, 4)))
        for _ in range(VOCABULARY)
    ]
    return [(word, 1 / (number + 10)) for number, word in enumerate(words)]


@cache
def english() -> Words:
    """Words of English, as often as each is in the documentation that comes with Python.

    Real frequencies, with the words that full-text search leaves out and a long tail; the same for one Python.
    """
    counted = Counter(word for each in sample_texts(_ALL_TEXTS) for word in _WORD.findall(each.text.casefold()))
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))


def question(text: str, choose: random.Random, words: int) -> str:
    """Some words of a text, those that say something first: short ones are mostly left out by full-text search."""
    parts = text.split()
    long = [word for word in parts if len(word) > 3]
    return " ".join(choose.sample(long if len(long) >= words else parts, words))


def common_questions(choose: random.Random, count: int, words: int) -> Sequence[str]:
    """Questions of the most frequent words that full-text search does not leave out."""
    frequent = list(itertools.islice((word for word, _ in english() if len(word) > 5), COMMON_WORDS))
    return [" ".join(choose.sample(frequent, words)) for _ in range(count)]
