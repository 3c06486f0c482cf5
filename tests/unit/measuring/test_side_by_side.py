"""What is made of two rankings of the same questions."""

from __future__ import annotations

import random

import pytest

from memory_operator.measuring.side_by_side import (
    QuestionResult,
    SideResult,
    Summary,
    overlap,
    predict,
    rank_biased_overlap,
    summarise,
    worse_than,
)

NAMES = [f"m{number}" for number in range(10)]


def side(ranking: list[str], **more: object) -> SideResult:
    return SideResult(ranking, ranking, **more)  # type: ignore[arg-type]


def of_ranks(pairs: list[tuple[int, int]]) -> Summary:
    """Questions whose answer the two sides have at these places."""

    def ranking(place: int) -> list[str]:
        return [*NAMES[:place], "answer", *NAMES[place:]][:10]

    results = [QuestionResult((side(ranking(one)), side(ranking(other))), {"answer": 1}) for one, other in pairs]
    return summarise(results, 10, 1)


def test_overlap_counts_what_both_have_and_agreement_its_order() -> None:
    assert overlap(NAMES, NAMES[::-1], 10) == 1.0
    assert overlap(NAMES[:5], NAMES[5:], 5) == 0.0
    assert overlap([], [], 10) == 1.0
    assert overlap(["a"], [], 10) == 0.0
    assert rank_biased_overlap(NAMES, NAMES) == pytest.approx(1.0)
    assert rank_biased_overlap(NAMES[:5], NAMES[5:]) == 0.0
    swapped_last = [*NAMES[:8], NAMES[9], NAMES[8]]
    swapped_first = [NAMES[1], NAMES[0], *NAMES[2:]]
    assert rank_biased_overlap(NAMES, swapped_first) < rank_biased_overlap(NAMES, swapped_last) < 1


def test_a_loss_counts_where_it_is_more_than_is_allowed_and_more_than_chance() -> None:
    worse = of_ranks([(0, 2)] * 60)
    assert worse.judged is not None
    assert len(worse_than(worse.judged, 0.02)) == 4
    assert worse_than(worse.judged, 0.9) == []
    better = of_ranks([(2, 0)] * 60)
    assert better.judged is not None
    assert worse_than(better.judged, 0.0) == []
    rng = random.Random(1)
    same = of_ranks([rng.choice([(0, 3), (3, 0)]) for _ in range(60)])
    assert same.judged is not None
    assert same.judged.ways["fused"].ndcg_difference.verdict == "no more than chance"
    assert worse_than(same.judged, 0.0) == []


def test_overlap_decides_nothing() -> None:
    results = [
        QuestionResult((side(["answer", "a", "b"]), side(["answer", "c", "d"])), {"answer": 1}) for _ in range(60)
    ]
    summary = summarise(results, 10, 1)
    assert summary.overlap["fused"].mean == pytest.approx(1 / 3)
    assert summary.judged is not None
    assert worse_than(summary.judged, 0.0) == []


def test_answers_that_are_not_in_both_do_not_count() -> None:
    found = QuestionResult((side(["a"]), side(["a"])), {"a": 1, "gone": 3}, ["gone"])
    nothing = QuestionResult((side(["b"]), side(["b"])), {"gone": 1}, ["gone"])
    summary = summarise([found, nothing], 10, 1)
    assert summary.judged is not None
    assert (summary.judged.questions, summary.judged.left_out) == (1, 1)
    assert summary.judged.ways["fused"].ndcg[0].mean == 1.0
    assert summarise([nothing], 10, 1).judged is None
    assert summarise([QuestionResult((side(["a"]), side([])))], 10, 1).judged is None


def test_what_the_second_reaches_with_all_follows_from_what_both_reach_on_a_part() -> None:
    rng = random.Random(2)
    one = [rng.random() for _ in range(200)]
    found = predict(0.4, one, [value * 0.9 for value in one], 1)
    assert found is not None
    assert found.mean == pytest.approx(0.36)
    assert found.low == pytest.approx(found.high)
    noisy = predict(0.4, one, [value * rng.choice((0.5, 1.3)) for value in one], 1)
    assert noisy is not None
    assert noisy.low < noisy.mean < noisy.high
    assert predict(0.4, [0.0, 0.0], [1.0, 0.0], 1) is None
    certain = predict(0.9, [0.5] * 20, [1.0] * 20, 1)
    assert certain is not None
    assert certain.mean == 1.0


def test_a_part_is_compared_with_the_whole_that_the_first_side_has() -> None:
    part = [QuestionResult((side(["a", "b"], whole=["x", "a"]), side(["b", "a"])), {"a": 1}) for _ in range(30)]
    judged = summarise(part, 10, 1).judged
    assert judged is not None
    assert judged.whole is not None
    assert judged.predicted is not None
    low = judged.ways["fused"].ndcg[1].mean
    assert judged.ways["fused"].ndcg[0].mean == 1.0
    assert judged.whole.mean == pytest.approx(low)
    assert judged.predicted.mean == pytest.approx(low * low)


def test_times_and_recall_are_those_that_were_measured() -> None:
    results = [
        QuestionResult((side(["a"], embed_ms=ms, search_ms=ms, tokens=4, index_recall=1.0), side(["a"])))
        for ms in (1.0, 2.0, 100.0)
    ]
    first, second = summarise(results, 10, 1).sides
    assert first.embed_ms is not None
    assert (first.embed_ms.p50, first.embed_ms.p95, first.tokens) == (2.0, 100.0, 4.0)
    assert first.index_recall is not None
    assert first.index_recall.mean == 1.0
    assert (second.embed_ms, second.index_recall) == (None, None)
