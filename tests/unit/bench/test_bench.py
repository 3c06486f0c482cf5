"""The bench's own code: texts that are what they are said to be, tables that fit, and counts that count."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from bench import libraries
from bench.__main__ import table
from bench.figures import Figure, at_least, exactly, told
from bench.http_load import Answers
from bench.soak import _Outage, _Seen
from bench.speeds import compared, of_library, speed
from bench.texts import Writer, common_questions, english, question
from bench.wrk import Load


def test_texts_have_the_words_of_a_language_as_often_as_it_has_them() -> None:
    words = dict(english())
    assert next(iter(words)) == "the"
    assert len(words) > 5_000
    share = words["the"] / sum(words.values())
    written = Counter(" ".join(Writer(random.Random(1), english()).texts(5_000)).split())
    assert written["the"] / written.total() == pytest.approx(share, rel=0.25)
    assert Writer(random.Random(1), english()).texts(3) == Writer(random.Random(1), english()).texts(3)


def test_a_question_is_words_of_its_text() -> None:
    [text] = Writer(random.Random(2), english()).texts(1)
    found = question(text, random.Random(3), 4)
    assert len(found.split()) == 4
    assert set(found.split()) <= set(text.split())
    assert len(set(common_questions(random.Random(4), 50, 4))) > 40


def test_the_widest_table_of_queries_and_adds_fits_120_columns() -> None:
    load = Load(rate=12_345.6, p50=1234.5, p99=12_345.6, busy=0, refused=12, incomplete=3, count=1)
    seen = {libraries.FILTERED: {32: libraries.Seen(123.4, 56.7, 1234.5)}}
    figures: list[Figure] = [
        *speed("no cost, beside adds, 32 clients", load, "queries"),
        *of_library("into 50,000 × 768", "langgraph", seen),
        at_least(compared("adds into 50,000 × 768, 32 clients", "adds", "langgraph"), 2.9, "", 3.0),
        told("1,000,000 chunks, words of a memory, 8 clients: p50, of that at 50,000", 1.9),
        exactly("1,234 adds/s for 300 s: of 100, answers with a memory twice", 0, "", 0),
    ]
    assert max(map(len, table(figures).splitlines())) <= 120
    assert [figure["holds"] for figure in figures[3:6]] == [True, False, False]


def test_answers_that_are_not_whole_are_counted() -> None:
    answers = Answers()
    channels = {"fulltext": {"status": "ok"}, "semantic": {"status": "timeout"}}
    answers.add(200, json.dumps({"diagnostics": {"channels": channels}}).encode(), 0.0)
    answers.add(201, b'{"embedding_status": "pending"}', 0.0)
    answers.add(201, b'{"embedding_status": "embedded"}', 0.0)
    answers.add(201, b"{}", 0.0)  # whose answer nobody kept
    answers.add(503, b"{}", 0.0)
    assert (answers.incomplete, answers.refused) == (2, 1)


def test_what_is_due_while_the_api_is_away_is_told_apart() -> None:
    outage = _Outage(start=10.0, end=20.0)
    seen = _Seen(outage)
    seen.note({"text": "before"}, 9.0, 201, b'{"id": "a"}')
    seen.note({"text": "cut off"}, 9.9, 0, b"")
    seen.note({"text": "meanwhile"}, 15.0, 201, b'{"id": "b"}')
    seen.note({"text": "after"}, 21.0, 503, b"{}")
    assert seen.stored == {"a": "before", "b": "meanwhile"}
    assert (seen.away, seen.refused, len(seen.times)) == (2, 1, 2)
