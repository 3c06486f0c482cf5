"""One text, one form: what writes and queries are put through."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_operator.errors import InvalidInput
from memory_operator.memory.preprocess import preprocess, storable

MIB = 1_048_576


def test_composed_and_decomposed_letters_become_the_same_text() -> None:
    assert preprocess("cafe\u0301") == preprocess("caf\u00e9") == "caf\u00e9"


def test_blanks_are_collapsed_and_one_empty_line_is_kept() -> None:
    assert preprocess("  a \t b\u00a0c  \r\n\r\n\r\n\r\n d\x0ce ") == "a b c\n\nd\ne"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("a\x00b", "ab"),
        ("ze\u200bro wi\ufeffdth", "zero width"),
        ("\u202eright to left\u202c", "right to left"),
        ("soft\u00adhyphen", "softhyphen"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("jo\u200diner", "joiner"),
    ],
)
def test_characters_that_nobody_sees_are_dropped(written: str, wanted: str) -> None:
    assert preprocess(written) == wanted


def test_joiners_stay_where_a_script_or_an_emoji_needs_them() -> None:
    family, persian = "\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert preprocess(f"{family} {persian}") == f"{family} {persian}"


def test_decoration_that_stands_alone_is_dropped() -> None:
    text = "Title\n==========\nfirst\n- - -\n-------- second ********\n+-----+------+\nthird"
    assert preprocess(text) == "Title\n\nfirst\n- - -\nsecond\n\nthird"


@pytest.mark.parametrize(
    "text",
    [
        "foo_bar.baz",
        "a -> b => c ** d",
        "--port 8080 -v",
        "/usr/local/lib/x----y.py",
        "-----BEGIN CERTIFICATE-----",
        "__init__",
        "C:\\Users\\me",
        "kubectl get providers.omnia.altairalabs.ai -o=jsonpath='{.items[*]}'",
    ],
)
def test_identifiers_paths_and_commands_are_never_changed(text: str) -> None:
    assert preprocess(text) == text


@pytest.mark.parametrize("text", ["", "  \n\t", "\x00\x01", "\u200b\ufeff", "------", "===== \n *****", "\u200d\u200d"])
def test_a_text_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        preprocess(text)


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_is_put_together() -> None:
    assert preprocess("a\ud800b") == "a\ufffdb"
    assert storable("\ud83d\ude00") == "\U0001f600"


@pytest.mark.parametrize(
    "text",
    [
        "Some words, a comma, and an end. \n" * (MIB // 34),
        "na\u00efve caf\u00e9 " * (MIB // 13),
        "a" + "\u0301\u0323" * (MIB // 4),
        "-" * MIB + "a",
        " \n" * (MIB // 2) + "a",
        "\u200d" * (MIB // 3) + "a",
    ],
    ids=["words", "accents", "marks", "dashes", "blanks", "joiners"],
)
def test_a_mebibyte_takes_less_than_two_seconds_whatever_is_in_it(text: str) -> None:
    started = time.thread_time()
    preprocess(text)
    assert time.thread_time() - started < 2


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_doing_it_twice_changes_nothing_and_the_result_can_be_stored(text: str) -> None:
    try:
        once = preprocess(text)
    except InvalidInput:
        return
    assert preprocess(once) == once
    assert "\x00" not in once
    once.encode()
