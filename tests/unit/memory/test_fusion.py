"""Fusing channels by what each of them knows about a question."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from memory_operator.memory.fusion import (
    AGREEMENT,
    COUNTED,
    FULLTEXT_SPAN,
    SEMANTIC_SPAN,
    USUAL_DISPERSION,
    WEIGHTS,
    Dispersion,
    Fused,
    Ranking,
    agreement,
    by_vectors,
    by_words,
    fuse,
    given,
    weigh,
)

NOBODY = Ranking([], [], 0.0, 1.0)


def items(rankings: dict[str, Ranking], weights: Mapping[str, float] | None = None) -> list[Fused]:
    """Weighed by what each knows, unless weights are given."""
    found = fuse(rankings, weights or weigh(rankings), agreement(rankings, weights))
    return found.items(0, len(found))


def ranked(words: Ranking = NOBODY, vectors: Ranking = NOBODY) -> list[int]:
    rankings = {"fulltext": words, "semantic": vectors}
    return [item.key for item in items(rankings)]


def words(*scores: float) -> Ranking:
    return by_words(range(1, len(scores) + 1), scores, COUNTED)


def test_the_score_is_the_sum_of_what_is_told_of_it() -> None:
    rankings = {
        "fulltext": words(0.5, 0.4, 0.1),
        "semantic": by_vectors([9, 3, 8], [0.7, 0.5, 0.4], 60, USUAL_DISPERSION),
    }
    weights = weigh(rankings)
    for item in items(rankings):
        told = sum(weights[channel] * share.normalised for channel, share in item.shares.items())
        assert item.score == pytest.approx(told + item.agreement)
        assert 0 <= item.score <= 1
    both = next(item for item in items(rankings) if item.key == 3)
    assert {channel: share.rank for channel, share in both.shares.items()} == {"fulltext": 3, "semantic": 2}
    assert both.agreement == pytest.approx(AGREEMENT * min(ranking.knows for ranking in rankings.values()))


def test_the_most_that_a_memory_can_have_is_one() -> None:
    rankings = {"fulltext": words(0.9, 0.1), "semantic": by_vectors([1, 2], [0.95, 0.1], 60, USUAL_DISPERSION)}
    assert items(rankings)[0].score == pytest.approx(1)


def test_words_that_all_candidates_have_decide_nothing() -> None:
    flat = by_words(range(1, 61), [0.5 - 0.0001 * number for number in range(60)], 60)
    clear = by_vectors(range(60, 0, -1), [0.8, *(0.3 - 0.001 * number for number in range(59))], 60, USUAL_DISPERSION)
    assert ranked(flat, clear)[0] == 60
    assert flat.knows < 0.1


def test_a_vector_that_stands_out_no_more_than_vectors_do_anyway_decides_nothing() -> None:
    clear = by_words(range(1, 61), [0.5, *(0.1 for _ in range(59))], 60)
    near = by_vectors(range(60, 0, -1), [0.9 - 0.001 * number for number in range(60)], 60, Dispersion(0.5, 0.15))
    assert ranked(clear, near)[0] == 1
    assert near.knows < 0.2
    assert by_vectors(near.keys, near.scores, 60, Dispersion(0.85, 0.005)).knows == 1


def test_that_both_found_a_memory_says_as_much_as_the_one_that_knows_less() -> None:
    clear = by_words(range(1, 61), [0.5, *(0.1 for _ in range(59))], 60)
    near = by_vectors(range(60, 0, -1), [0.9 - 0.001 * number for number in range(60)], 60, Dispersion(0.5, 0.15))
    assert agreement({"fulltext": clear, "semantic": near}) == AGREEMENT * near.knows < 0.1 * AGREEMENT
    assert agreement({"fulltext": clear, "semantic": near}, {"fulltext": 0.5, "semantic": 0.4}) == AGREEMENT
    assert agreement({"fulltext": clear, "semantic": near}, {"fulltext": 0.9, "semantic": 0}) == 0


def test_a_vector_that_stands_out_by_half_knows_a_quarter() -> None:
    half = SEMANTIC_SPAN * USUAL_DISPERSION.deviation / 2
    assert by_vectors([1, 2], [0.5 + half, 0.5], 2, USUAL_DISPERSION).knows == pytest.approx(0.25)


def test_one_word_of_which_few_memories_have_a_part_counts_from_nothing() -> None:
    alone = words(0.4)
    assert alone.weakest == 0
    assert alone.knows == pytest.approx(min(1, 0.4 / FULLTEXT_SPAN))
    assert alone.normalised(0.4) == 1


def test_a_project_of_one_memory_finds_it_by_meaning_with_a_score() -> None:
    alone = by_vectors([1], [0.6], 60, Dispersion(0.2, 0.1))
    assert items({"semantic": alone})[0].score == pytest.approx(WEIGHTS["semantic"])


def test_a_longer_answer_begins_as_a_shorter_one_does() -> None:
    scores = [0.5 - 0.004 * number for number in range(120)]
    short = (by_words(range(60), scores[:60], 60), by_vectors(range(59, -1, -1), scores[:60], 60, USUAL_DISPERSION))
    long = (
        by_words(range(120), scores, 120),
        by_vectors([*range(59, -1, -1), *range(60, 120)], scores, 120, USUAL_DISPERSION),
    )
    assert ranked(*long)[:20] == ranked(*short)[:20]


def test_one_channel_alone_keeps_its_order_also_below_what_is_counted() -> None:
    keys = list(range(200, 0, -1))
    assert ranked(vectors=by_vectors(keys, [0.9 - 0.002 * n for n in range(200)], 200, USUAL_DISPERSION)) == keys


def test_ties_are_broken_by_the_best_rank_then_the_channel_then_the_key() -> None:
    rankings = {"fulltext": Ranking([1, 2], [1, 1], 0, 1), "semantic": Ranking([3, 4], [1, 1], 0, 1)}
    assert [item.key for item in items(rankings, {"fulltext": 0.5, "semantic": 0.5})] == [1, 3, 2, 4]


def test_weights_that_are_given_replace_what_the_channels_know() -> None:
    rankings = {"fulltext": words(0.5, 0.1), "semantic": Ranking([2, 1], [1, 0], 0, 1)}
    assert items(rankings, given({"fulltext": 0, "semantic": 7}))[0].key == 2
    assert items(rankings, given({"fulltext": 3, "semantic": 1}))[0].key == 1
    alone = items(rankings, given({"fulltext": 0, "semantic": 7}))[0]
    assert (alone.score, alone.agreement) == (pytest.approx(1 - AGREEMENT), 0)


def test_what_has_less_than_the_least_score_is_left_out() -> None:
    rankings = {"fulltext": words(0.5, 0.3, 0.1)}
    every = items(rankings)
    left = fuse(rankings, weigh(rankings), agreement(rankings), every[1].score)
    assert [item.key for item in left.items(0, 9)] == [1, 2]
    assert [item.key for item in left.items(1, 1)] == [2]


def test_nothing_found_is_an_empty_ranking() -> None:
    assert ranked() == []
    assert items({}, {}) == []
