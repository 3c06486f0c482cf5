"""What full-text search is given: identifiers and paths taken apart, so that a part finds the whole.

PostgreSQL's parser makes one word of `src/main.rs` and of `bar.baz`. Their parts are indexed beside them, and a
query is run in three forms: as it was written, with all of its parts, and with any of its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

QUERY_CHARS = 2_000
"""How much of a query full-text search uses."""

_PART = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_EDGES = "\"'`.,;:!?()[]{}<>…“”‘’«»"
# A leading hyphen means "not" to PostgreSQL, and an option to everybody else.
_NOT = re.compile(r"(?<!\S)-+")


@dataclass(frozen=True, slots=True)
class SearchTerms:
    """A query in the forms that full-text search runs it."""

    written: str
    """For websearch_to_tsquery: quoted phrases and `or` keep their meaning."""
    parts: str
    """All words with compounds taken apart: every one must be there. Empty where nothing is compound."""
    words: str
    """Words without punctuation at their edges, and parts of compounds: any of them will do."""


def query_terms(query: str) -> SearchTerms:
    """The forms of a preprocessed query."""
    cut = query[:QUERY_CHARS]
    words = [word for token in cut.split() if (word := token.strip(_EDGES))]
    parts = [_parts(word) for word in words]
    compounds = [part for found in parts if len(found) > 1 for part in found]
    every = " ".join(part for found in parts for part in found) if compounds else ""
    return SearchTerms(_NOT.sub(" ", cut), every, " ".join([*words, *compounds]))


def indexed(text: str, tags: Sequence[str] = ()) -> str:
    """What a chunk is found by: its text, its memory's tags, and the parts of all compounds in them."""
    shown = "\n".join([text, *tags])
    parts = [part for word in shown.split() if len(found := _parts(word)) > 1 for part in found]
    return f"{shown}\n{' '.join(parts)}" if parts else shown


def _parts(word: str) -> list[str]:
    """`foo_bar.baz` → foo, bar, baz; `getUserById2` → get, User, By, Id, 2."""
    return _PART.findall(_HUMP.sub(" ", word))
