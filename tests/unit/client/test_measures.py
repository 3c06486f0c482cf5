"""Measures of rankings, held against ir-measures, and what is made of chance."""

from __future__ import annotations

import random

import ir_measures
import pytest
from ir_measures import AP, RR, R, nDCG

from memory_operator.measuring import measures
from memory_operator.measuring.chance import compared, mean_of


@pytest.mark.parametrize("k", [10, 25])
def test_measures_agree_with_ir_measures(k: int) -> None:
    rng = random.Random(7)
    grades: dict[str, dict[str, int]] = {}
    rankings: dict[str, list[str]] = {}
    for number in range(300):
        documents = [f"d{index}" for index in range(rng.choice((3, 12, 60)))]
        judged = rng.sample(documents, rng.randint(1, len(documents)))
        grades[f"q{number}"] = {name: rng.choice((-1, 0, 0, 1, 1, 2, 3)) for name in judged}
        rankings[f"q{number}"] = rng.sample(documents, rng.randint(1, min(k, len(documents))))
    run = [
        ir_measures.ScoredDoc(question, document, float(-rank))
        for question, ranking in rankings.items()
        for rank, document in enumerate(ranking)
    ]
    qrels = [
        ir_measures.Qrel(question, document, grade)
        for question, of_one in grades.items()
        for document, grade in of_one.items()
    ]
    theirs = {
        (one.query_id, str(one.measure)): one.value
        for one in ir_measures.iter_calc([nDCG @ 10, R @ k, RR @ k, AP @ k], qrels, run)
    }
    ours = {
        (question, name): value
        for question, ranking in rankings.items()
        for name, value in measures.measured(ranking, grades[question], k).items()
    }
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_a_question_without_answers_or_results_measures_nothing() -> None:
    assert set(measures.measured(["a"], {"a": 0, "b": -1}, 10).values()) == {0.0}
    assert set(measures.measured([], {"a": 1}, 10).values()) == {0.0}


def test_a_clear_difference_is_more_than_chance_and_a_random_one_is_not() -> None:
    rng = random.Random(3)
    one = [rng.random() for _ in range(200)]
    assert compared([value + 0.1 * rng.random() for value in one], one, 1).verdict == "better"
    assert compared([value - 0.1 * rng.random() for value in one], one, 1).verdict == "worse"
    assert compared([value + rng.choice((-0.1, 0.1)) for value in one], one, 1).verdict == "no more than chance"
    same = compared(one, one, 1)
    assert (same.verdict, same.p, same.difference.mean) == ("no more than chance", 1.0, 0.0)


def test_the_interval_of_a_mean_is_that_of_its_questions_and_the_same_for_a_seed() -> None:
    rng = random.Random(5)
    values = [float(rng.random() < 0.3) for _ in range(400)]
    found = mean_of(values, 1)
    assert found == mean_of(values, 1)
    half = 1.96 * (found.mean * (1 - found.mean) / len(values)) ** 0.5
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.01)
