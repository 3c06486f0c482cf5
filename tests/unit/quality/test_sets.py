"""The judged sets that `make quality` makes and reads."""

from __future__ import annotations

import json

import pytest

from quality.sets import DOCUMENTS, QUESTIONS, made, read


def test_made_sets_are_the_same_for_the_same_seed_and_answer_each_of_their_questions():
    pytest.importorskip("denckring", reason="`make install` brings the words")
    names = ("glosses", "dialogue", "german")
    first, other = list(made(names, seed=1)), list(made(names, seed=2))
    assert first == list(made(names, seed=1))
    assert first[0].queries != other[0].queries
    for judged in first:
        assert len(judged.corpus) >= DOCUMENTS
        assert len(judged.queries) == QUESTIONS
        assert all(set(judged.grades[query]) <= set(judged.corpus) for query in judged.queries)


def test_a_folder_is_read_without_the_questions_that_nothing_answers(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": 1, "text": "one"}) + "\n\n")
    questions = [{"id": "q1", "text": "uno?"}, {"id": "q2", "text": "due?"}, {"id": "q3", "text": "tre?"}]
    (tmp_path / "queries.jsonl").write_text("\n".join(json.dumps(question) for question in questions))
    (tmp_path / "qrels.tsv").write_text("query\tdocument\tgrade\nq1\t1\t2\nq2\t1\t0\n")
    judged = read(tmp_path)
    assert judged.corpus == {"1": "one"}
    assert judged.queries == {"q1": "uno?"}
    assert judged.grades["q1"] == {"1": 2}
