"""What `make quality` counts."""

from __future__ import annotations

import pytest

from quality.metrics import interval, ndcg, recall, reciprocal_rank

GRADES = {"a": 3, "b": 1, "c": 1, "d": 0}


def test_the_best_ranking_has_an_ndcg_of_one_and_grades_count():
    assert ndcg(["a", "b", "c"], GRADES) == pytest.approx(1)
    assert ndcg(["b", "a", "c"], GRADES) == pytest.approx((1 + 3 / 1.5849625 + 0.5) / (3 + 1 / 1.5849625 + 0.5))
    assert ndcg(["d", "x"], GRADES) == 0
    assert ndcg(["x"] * 10 + ["a"], GRADES) == 0


def test_recall_and_reciprocal_rank_count_relevant_documents_only():
    assert recall(["d", "a", "x", "b"], GRADES) == pytest.approx(2 / 3)
    assert reciprocal_rank(["d", "x", "b"], GRADES) == pytest.approx(1 / 3)
    assert reciprocal_rank(["d", "x"], GRADES) == 0


def test_a_difference_that_always_shows_is_more_than_chance_and_one_that_goes_both_ways_is_not():
    low, high = interval([0.1] * 50)
    assert low == high == pytest.approx(0.1)
    low, high = interval([0.1, -0.1] * 25)
    assert low < 0 < high
    assert interval([0.1, -0.1] * 25, seed=3) == interval([0.1, -0.1] * 25, seed=3)
