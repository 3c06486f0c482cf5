"""What full-text search is given: identifiers and paths taken apart, so that a part finds the whole.

PostgreSQL's parser makes one word of `src/main.rs` and of `bar.baz`. Their parts are indexed beside them, and a
query is run in three forms: as it was written, with all of its parts, and with any of its words.

Scripts without spaces become pairs of characters, since no word can be told from the next. Words with accents are
indexed without them too. Case and punctuation outside ASCII are evened out here: what the parser makes of them depends
on the database's locale.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from memory_operator.memory.languages import question_language, small_words

QUERY_CHARS = 2_000
"""How much of a query full-text search uses."""

MAX_PAIRS = 24
"""Pairs of characters of a question that are looked for one by one."""

_PART = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_EDGES = "\"'`.,;:!?()[]{}<>…“”‘’«»"
# A leading hyphen means "not" to PostgreSQL, and an option to everybody else.
_NOT = re.compile(r"(?<!\S)-+")

# Thai, Lao, Khmer, Burmese; kana, Han, Hangul.
_UNSPACED_LETTERS = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{_UNSPACED_LETTERS}]+")
_HIRAGANA = re.compile("[\u3041-\u309f]+")
_SAYS_LITTLE = re.compile("[的了吗嗎呢么麼什是在哪谁誰]")
"""Characters of Chinese questions that say nothing about what they are about."""

_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»「」『』《》〈〉＂", '"'),
        **dict.fromkeys("‘’‚‛ʼ＇", "'"),
        **dict.fromkeys("‐‑－", "-"),
        **dict.fromkeys("‒–—―", " "),
    }
)
_PUNCTUATION = re.compile(
    "[\u00a0-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965"
    "\u0e2f\u0e46\u2000-\u200b\u2010-\u205e\u2190-\u2bff\u3000-\u3004\u3008-\u3020\u3030\u303d\u30a0\u30fb"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)
# Marks that are accents: in other scripts they are vowels, and a word without them is another one.
_ACCENTED = re.compile(
    "[\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff\u0591-\u05f4\u0610-\u06ff\u1e00-\u1fff\ufb00-\ufb06\uff10-\uff5a]"
)
_ACCENT = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]")
_LETTERS_WITHOUT_ACCENT = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ı": "i", "ـ": ""}
)


@dataclass(frozen=True, slots=True)
class SearchTerms:
    """A query in the forms that full-text search runs it."""

    written: str
    """For websearch_to_tsquery: quoted phrases and `or` keep their meaning."""
    parts: str
    """All words with compounds taken apart: every one must be there. Empty where nothing is compound."""
    words: str
    """Words without punctuation at their edges, and parts of compounds: any of them will do."""
    singles: tuple[str, ...] = ()
    """Single characters of a script without spaces: words that begin with them will do."""
    pairs: int = 0
    """How many of the words are pairs of characters."""
    language: str | None = None
    """The configuration of the language that it is certainly in; small words of that one say nothing."""

    @property
    def folded(self) -> SearchTerms:
        """The same without accents."""
        return SearchTerms(fold(self.written), fold(self.parts), fold(self.words))


def query_terms(query: str) -> SearchTerms:
    """The forms of a preprocessed query."""
    cut = query[:QUERY_CHARS]
    plain = cut if cut.isascii() else _plain(cut)
    runs = [] if plain.isascii() else _UNSPACED.findall(plain)
    pairs, singles = _question_pairs(runs) if runs else ([], ())
    spaced = _UNSPACED.sub(" ", plain) if runs else plain
    words = [word for token in spaced.split() if (word := token.strip(_EDGES))]
    language = question_language(cut)
    if small := small_words(language):
        words = [word for word in words if word.lower() not in small] or words
    parts = [_parts(word) for word in words]
    compounds = [part for found in parts if len(found) > 1 for part in found]
    every = " ".join([*(part for found in parts for part in found), *pairs]) if compounds else ""
    # A single character has no word of its own in the index: it is looked for by the beginning of words alone.
    written = _UNSPACED.sub(lambda run: f" {' '.join(_pairs(run[0]))} ", plain) if runs else plain
    return SearchTerms(
        _lower(_NOT.sub(" ", written)),
        _lower(every),
        _lower(" ".join([*words, *compounds, *pairs])),
        singles,
        len(pairs),
        language,
    )


def indexed(text: str, tags: Sequence[str] = ()) -> str:
    """What a chunk is found by: its text, its memory's tags, and the parts of all compounds in them."""
    shown = "\n".join([text, *tags])
    plain = shown if shown.isascii() else _plain(shown)
    parts = [part for word in plain.split() if len(found := _parts(word)) > 1 for part in found]
    if plain.isascii():
        return f"{plain}\n{' '.join(parts)}" if parts else plain
    base = _UNSPACED.sub(lambda run: f" {' '.join([*_pairs(run[0]), run[0][-1]])} ", plain)
    folded = [bare for word in {*_words_of(base)} if (bare := fold(word)) != word]
    return "\n".join(_lower(line) for line in (base, " ".join(parts), " ".join(sorted(folded))) if line)


def fold(text: str) -> str:
    """A text in lower case without accents; of scripts where marks are vowels it stays as it is."""
    if text.isascii() or not _ACCENTED.search(text):
        return text
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text.lower().translate(_LETTERS_WITHOUT_ACCENT)))
    return unicodedata.normalize("NFC", bare)


def _plain(text: str) -> str:
    """The text with the punctuation of print, and of other scripts, as ASCII has it, or as blanks."""
    return _PUNCTUATION.sub(" ", text.translate(_TYPOGRAPHIC))


def _lower(text: str) -> str:
    """In lower case, where the database's locale may not know how."""
    return text if text.isascii() else text.lower()


def _words_of(text: str) -> list[str]:
    return [word for token in text.lower().split() if (word := token.strip(_EDGES))]


def _pairs(run: str) -> list[str]:
    """The pairs of neighbours in a run of characters; of a single one nothing."""
    return [run[index : index + 2] for index in range(len(run) - 1)]


def _question_pairs(runs: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The pairs of a question that say something, and the characters that stand alone."""
    pairs = list(dict.fromkeys(pair for run in runs for pair in _pairs(run)))
    telling = [pair for pair in pairs if not (_HIRAGANA.fullmatch(pair) or _SAYS_LITTLE.search(pair))]
    singles = tuple(dict.fromkeys(run for run in runs if len(run) == 1))
    return (telling or pairs)[:MAX_PAIRS], singles


def _parts(word: str) -> list[str]:
    """`foo_bar.baz` → foo, bar, baz; `getUserById2` → get, User, By, Id, 2."""
    return _PART.findall(_HUMP.sub(" ", word))
