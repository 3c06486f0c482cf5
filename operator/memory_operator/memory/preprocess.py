"""What is done to a text before it is chunked, embedded and indexed: the same for writes and for queries.

A query that was normalised in another way than the memories it looks for finds less. So there is one function,
and it has a version that is part of every space's identity.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from memory_operator.errors import InvalidInput

PREPROCESSING_VERSION = 1
"""Raised with every change of what `preprocess` returns for some text: vectors made before are another space's."""

_DECORATION_MIN = 4
"""Shorter runs have meanings: `->`, `**`, `...`, `---` in front matter of three."""

_MARKS_MAX = 30
"""Combining marks that may follow one character; the longest sequence of any script is far below."""

# All but tab, line breaks and the separators, which are blanks.
_ASCII_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f]+")
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f\u00ad\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    # Joiners have a meaning inside emoji and some scripts, never beside ASCII.
    "|[\u200c\u200d](?![^\x00-\x7f\u200c\u200d])|(?<![^\x00-\x7f\u200c\u200d])[\u200c\u200d]"
)
_EMPTY_LINES = re.compile(r"\n{3,}")
_DECORATION = re.compile(rf"(?<!\S)[-=_*~#.+^|–—·•●▪■◆★─-╿▀-▟]{{{_DECORATION_MIN},}}+(?!\S)")


def preprocess(text: str) -> str:
    """Normalise a text for embedding and full-text search.

    Unicode NFC; control and zero-width characters dropped; unpaired surrogates, which no vendor and no database
    takes, replaced by U+FFFD; blanks and tabs collapsed, at most one empty line; runs of decoration such as
    `------` dropped where they stand alone. Words, identifiers and paths are never changed. The result is not
    empty. Raises InvalidInput when nothing is left.
    """
    clean = storable(text)
    if clean.isascii():
        clean = _ASCII_CONTROLS.sub("", clean)
    else:
        clean = unicodedata.normalize("NFC", _stacked_marks().sub(r"\1", _CONTROLS.sub("", clean)))
    clean = _blanks_collapsed(clean)
    if _DECORATION.search(clean):
        clean = _blanks_collapsed(_DECORATION.sub("", clean))
    if not clean:
        raise InvalidInput(
            "the text is empty, or holds nothing but blanks, control characters and decoration",
            hint="give a text with at least one word",
        )
    return clean


def storable(text: str) -> str:
    """The text with each unpaired surrogate, which JSON can smuggle in and UTF-8 cannot hold, made U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _blanks_collapsed(text: str) -> str:
    lines = "\n".join(" ".join(line.split()) for line in text.splitlines())
    return _EMPTY_LINES.sub("\n\n", lines).strip()


@cache
def _stacked_marks() -> re.Pattern[str]:
    """Runs of combining marks too long to be writing: normalising them takes time with the square of the length."""
    marks = "".join(chr(c) for c in range(0x300, 0x1F000) if unicodedata.combining(chr(c)))
    return re.compile(f"([{re.escape(marks)}]{{{_MARKS_MAX}}})[{re.escape(marks)}]+")
