"""Reading the lines of a file, and sets of line numbers."""

from __future__ import annotations

import io

import pytest

from memory_operator.client.bulk.lines import MAX_LINE_BYTES, LineSet, Row, read_rows
from memory_operator.client.errors import MisuseError


def rows(content: bytes, row_format: str = "lines", lines: str = "1-") -> list[Row]:
    return list(read_rows(io.BytesIO(content), row_format, LineSet.parse(lines)))  # type: ignore[arg-type]


def test_every_line_is_a_text_and_blank_lines_are_passed_over() -> None:
    assert rows(b"\xef\xbb\xbfone\r\n\n  \ntwo") == [Row(1, {"text": "one"}), Row(4, {"text": "two"})]


def test_a_json_line_says_what_goes_with_the_text() -> None:
    assert rows(b'{"text": "one", "tags": ["a"]}\n', "jsonl") == [Row(1, {"text": "one", "tags": ["a"]})]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"text": ', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"tags": []}', "no text"),
        (b'{"text": 7}', "no text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_broken_json_line_is_named_and_the_next_one_is_read(line: bytes, fault: str) -> None:
    broken, good = rows(line + b'\n{"text": "good"}\n', "jsonl")
    assert fault in broken.fault
    assert good == Row(2, {"text": "good"})


def test_a_line_that_is_too_long_is_read_past_and_not_kept() -> None:
    first, second = rows(b"x" * (3 * MAX_LINE_BYTES) + b"\nshort\n")
    assert (first.line, first.body, bool(first.fault)) == (1, {}, True)
    assert second == Row(2, {"text": "short"})


def test_only_the_wanted_lines_are_read() -> None:
    assert [row.line for row in rows(b"a\nb\nc\nd\ne\nf\n", lines="2,4-")] == [2, 4, 5, 6]


@pytest.mark.parametrize(
    ("written", "read"), [("3", "3"), ("9-,1-3,2-5, 7 ", "1-5,7,9-"), ("4-6,5-", "4-"), ("1,2,3", "1-3")]
)
def test_a_set_of_lines_is_written_in_its_shortest_form(written: str, read: str) -> None:
    assert str(LineSet.parse(written)) == read


@pytest.mark.parametrize("written", ["", "0", "x", "3-1", "-4", "1,,2", "²"])
def test_what_is_no_set_of_lines_is_misuse(written: str) -> None:
    with pytest.raises(MisuseError):
        LineSet.parse(written)


def test_what_is_left_of_a_set_stays_within_it() -> None:
    assert str(LineSet.parse("3,7-9,40-50").since(8)) == "8-9,40-50"
    assert not LineSet.parse("3").since(4)
