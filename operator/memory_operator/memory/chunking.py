"""Cutting a preprocessed text into the pieces that are embedded, and estimating what a piece costs."""

from __future__ import annotations

import re
from functools import cache

from semantic_text_splitter import TextSplitter

CHUNKER_VERSION = 1
"""Stored with each chunk, so that chunks cut in another way can be told apart."""

CHUNK_CHARS = (800, 1_200)
"""A chunk ends at the best boundary (paragraph, sentence, word) between these lengths; the last may be shorter."""

MAX_CHUNK_BYTES = 65_536
"""No embedder is sent more in one text (UTF-8). Chunks stay far below: a character takes 4 bytes at most."""

BYTES_PER_TOKEN = 4
"""What every estimate counts, of UTF-8: `estimate_tokens`."""

_BLOCK_CHARS = 8_192
_BLOCK_END_CHARS = 2_048


def chunk(text: str) -> list[str]:
    """Cut a preprocessed text at boundaries of meaning; a text of at most 1,200 characters stays whole.

    Every chunk has 1 to 1,200 characters, without blanks at its ends. The splitter's time grows with the square
    of what it is given when a text has no boundaries, so it is given blocks that end at a paragraph, line or word.
    """
    if len(text) <= CHUNK_CHARS[1]:
        return [text]
    return [piece for block in _blocks(text) for piece in _splitter().chunks(block)]


def estimate_tokens(text: str) -> int:
    """About how many tokens a model counts in a text: UTF-8 bytes ÷ 4, at least 1.

    Within a third of the truth for English prose and code, and closer than characters ÷ 4 for scripts whose
    characters are tokens of their own.
    """
    return tokens_of(len(text.encode()))


def tokens_of(size: int) -> int:
    """The same for a text of so many bytes, a prefix included."""
    return max(1, -(-size // BYTES_PER_TOKEN))


@cache
def _splitter() -> TextSplitter:
    return TextSplitter(CHUNK_CHARS)


def _blocks(text: str) -> list[str]:
    blocks, start = [], 0
    while len(text) - start > _BLOCK_CHARS:
        end = _block_end(text, start + _BLOCK_CHARS - _BLOCK_END_CHARS, start + _BLOCK_CHARS)
        blocks.append(text[start:end])
        start = end
    blocks.append(text[start:])
    return [block for block in blocks if block.strip()]


def _block_end(text: str, first: int, last: int) -> int:
    """Just behind the last paragraph, else line, else sentence, else word, that ends in a stretch of the text."""
    for boundary in (r"\n\n", r"\n", r"[.!?。！？]\s", r"\s"):
        ends = [match.end() for match in re.finditer(boundary, text[first:last])]
        if ends:
            return first + ends[-1]
    return last
