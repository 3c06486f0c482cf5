"""The shape of an answer: texts that are in it already, and how much of a question was used."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from memory_operator.memory.chunking import CHUNK_CHARS, chunk
from memory_operator.memory.search_terms import QUERY_CHARS

_EDGES = ".,;:!?…\"'“”„‘’«»"


@dataclass(frozen=True, slots=True)
class Cut:
    """How many characters of a long question were used."""

    characters: int
    """Of the question, preprocessed."""
    fulltext: int
    semantic: int


def cut_of(question: str) -> Cut | None:
    """What a question is cut to; None where it is used whole."""
    if len(question) <= min(QUERY_CHARS, CHUNK_CHARS[0]):
        return None
    cut = Cut(len(question), min(len(question), QUERY_CHARS), len(embeddable(question)))
    return None if cut.characters == cut.fulltext == cut.semantic else cut


def embeddable(question: str) -> str:
    """The beginning of a question, as long as the chunks that it is compared with: some models refuse more."""
    return chunk(question[: 4 * CHUNK_CHARS[1]])[0]


def bare(text: str) -> str:
    """A text without what makes no difference: case, blanks, and punctuation at the edges of words."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(word for token in plain.split() if (word := token.strip(_EDGES)))
