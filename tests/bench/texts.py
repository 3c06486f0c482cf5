"""Texts whose words are as unevenly frequent as those of a language: full-text figures mean nothing without that."""

from __future__ import annotations

import itertools
import random

WORDS_PER_TEXT = 18
VOCABULARY = 20_000


class Writer:
    """Writes texts of about 120 characters; the same ones for the same seed."""

    def __init__(self, choose: random.Random) -> None:
        makes = random.Random(1)
        self._choose = choose
        self._vocabulary = [
            "".join(makes.choice("bcdfghklmnprst") + makes.choice("aeiou") for _ in range(makes.randint(2, 4)))
            for _ in range(VOCABULARY)
        ]
        self._weights = list(itertools.accumulate(1 / (number + 10) for number in range(VOCABULARY)))

    def texts(self, count: int) -> list[str]:
        """So many new texts."""
        return [
            " ".join(self._choose.choices(self._vocabulary, cum_weights=self._weights, k=WORDS_PER_TEXT))
            for _ in range(count)
        ]
