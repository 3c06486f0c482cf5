"""What foreign text may do to a terminal: nothing."""

from __future__ import annotations

import json

import pytest

from memory_operator.client.terminal.format import clean, duration, json_text, one_line, share

NASTY = "a\x1b]0;owned\x07\x1b[31mred\x9b2J\u202etxt\x00\r\nnext\ud800"


def test_foreign_text_loses_its_control_characters_and_keeps_its_lines() -> None:
    assert clean(NASTY) == "a]0;owned[31mred2Jtxt\nnext\ufffd"


def test_foreign_text_in_a_table_stays_on_one_line() -> None:
    assert one_line("a\tb\n\n c\u2028d", 6) == "a b c…"


def test_json_says_the_same_without_characters_that_steer_a_terminal() -> None:
    text = json_text({"text": NASTY})
    assert json.loads(text) == {"text": NASTY}
    assert text.isprintable() or all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(("value", "shown"), [(1.0, "100 %"), (0.99999, "99.9 %"), (0.0, "0.0 %"), (None, "–")])
def test_coverage_is_never_rounded_up_to_all_of_it(value: float | None, shown: str) -> None:
    assert share(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (61, "1 min 1 s"), (3700, "1 h 1 min"), (200_000, "2 d 7 h"), (None, "–")]
)
def test_a_span_of_time_is_given_in_its_two_largest_units(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
