"""How queries are asked, and what chunks are found by."""

import pytest

from memory_operator.memory.search_terms import QUERY_CHARS, indexed, query_terms


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("foo_bar.baz", "foo bar baz"),
        ("src/main.rs:42", "src main rs 42"),
        ("getUserById HTTPServer", "get User By Id HTTP Server"),
        ("C:\\Users\\me", "C Users me"),
        ("plain words only", ""),
    ],
)
def test_compounds_are_taken_apart(query: str, parts: str) -> None:
    assert query_terms(query).parts == parts


def test_options_are_not_negations_and_phrases_stay() -> None:
    assert (
        query_terms('run --port 8080 -v "exact phrase" foo-bar').written == 'run  port 8080  v "exact phrase" foo-bar'
    )


def test_punctuation_at_the_edges_of_words_is_no_part_of_them() -> None:
    assert query_terms("where is (foo.bar)?").words == "where is foo.bar foo bar"


def test_only_the_beginning_of_a_long_query_is_looked_at() -> None:
    query = query_terms("word " * 10_000)
    assert len(query.written) <= QUERY_CHARS
    assert len(query.words) <= QUERY_CHARS


def test_a_chunk_is_found_by_its_words_its_tags_and_all_parts() -> None:
    assert indexed("see foo_bar now", ("on-call",)) == "see foo_bar now\non-call\nfoo bar on call"
    assert indexed("plain words") == "plain words"
