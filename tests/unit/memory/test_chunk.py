"""Cutting texts into pieces that every embedder takes."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_operator.errors import InvalidInput
from memory_operator.memory.chunking import CHUNK_CHARS, MAX_CHUNK_BYTES, chunk, estimate_tokens
from memory_operator.memory.preprocess import preprocess

MIB = 1_048_576


def test_a_short_text_is_one_chunk() -> None:
    assert chunk("Tabs, not spaces.") == ["Tabs, not spaces."]
    assert chunk("x" * CHUNK_CHARS[1]) == ["x" * CHUNK_CHARS[1]]


def test_chunks_end_at_sentences_where_there_are_some() -> None:
    pieces = chunk("One sentence that is neither long nor short. " * 100)
    assert len(pieces) > 3
    assert all(piece.endswith(".") for piece in pieces)


def test_no_word_is_lost() -> None:
    text = preprocess("\n\n".join(f"word{number} and some more of the like." for number in range(4000)))
    assert " ".join(chunk(text)).split() == text.split()


@pytest.mark.parametrize(
    "text",
    [
        "a" * MIB,
        "\U0001f600" * (MIB // 4),
        "a" + "\u0301" * (MIB // 2),
        "a\n" * (MIB // 2),
        "a. " * (MIB // 3),
        "\u6f22\u5b57\u4eee\u540d" * (MIB // 12),
    ],
    ids=["no boundary", "emoji", "marks", "lines", "sentences", "han"],
)
def test_a_mebibyte_without_good_boundaries_is_cut_in_reasonable_time(text: str) -> None:
    started = time.thread_time()
    pieces = chunk(text)
    assert time.thread_time() - started < 3
    assert all(1 <= len(piece) <= CHUNK_CHARS[1] and len(piece.encode()) <= MAX_CHUNK_BYTES for piece in pieces)


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=60), st.integers(1, 300))
def test_every_chunk_has_something_in_it(text: str, times: int) -> None:
    try:
        whole = preprocess(text * times)
    except InvalidInput:
        return
    for piece in chunk(whole):
        assert 1 <= len(piece) <= CHUNK_CHARS[1]
        assert piece.strip()


@pytest.mark.parametrize(("text", "tokens"), [("a", 1), ("abcd", 1), ("abcde", 2), ("\u6f22\u5b57", 2)])
def test_tokens_are_estimated_from_bytes_and_never_zero(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens
