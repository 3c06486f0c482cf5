"""Fusing rankings by rank."""

import pytest

from memory_operator.memory.rank_fusion import fuse


def test_what_two_channels_find_comes_before_what_one_finds() -> None:
    fused = fuse({"fulltext": [1, 2, 3], "semantic": [9, 3, 8]})
    assert fused[0].key == 3
    assert fused[0].ranks == {"fulltext": 3, "semantic": 2}
    assert fused[0].contributions == {"fulltext": 1 / 63, "semantic": 1 / 62}
    assert fused[0].score == pytest.approx(1 / 63 + 1 / 62)


def test_one_channel_alone_keeps_its_order() -> None:
    assert [item.key for item in fuse({"semantic": [5, 1, 7]})] == [5, 1, 7]


def test_ties_are_broken_by_the_best_rank_then_the_channel_then_the_key() -> None:
    assert [item.key for item in fuse({"fulltext": [1, 2], "semantic": [3, 4]})] == [1, 3, 2, 4]
    assert [item.key for item in fuse({"fulltext": [1, 2], "semantic": [2, 1]})] == [2, 1]


def test_nothing_found_is_an_empty_ranking() -> None:
    assert fuse({"fulltext": [], "semantic": []}) == []
    assert fuse({}) == []
