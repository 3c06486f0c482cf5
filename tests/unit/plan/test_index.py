"""Which index a space is to have: what a spec asks for, what is tried for it, and what is said of it."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from memory_operator.contract.provider import EmbeddingSpec
from memory_operator.plan.index import Built, IndexConfig, IndexInUse, Segment, describe, index_config, to_fold, to_try

AUTO = IndexConfig(kind="auto")


def spec(**fields: Any) -> EmbeddingSpec:
    return EmbeddingSpec.model_validate(fields, by_alias=True, by_name=False)


@pytest.mark.parametrize("kind", ["auto", "hnsw", "hnsw-halfvec", "hnsw-binary", "none"])
def test_the_index_is_one_word_of_the_spec(kind: str) -> None:
    assert index_config(spec(index=kind)) == IndexConfig.model_validate({"kind": kind})


def test_an_index_that_is_left_out_is_the_one_of_full_precision() -> None:
    assert index_config(spec()) == IndexConfig(kind="hnsw", m=16, ef_construction=64)


@pytest.mark.parametrize(
    ("hnsw", "m", "ef_construction"),
    [
        ({"m": 24}, 24, 64),
        ({"m": 48}, 48, 96),
        ({"efConstruction": 200}, 16, 200),
        ({"m": 8, "efConstruction": 16}, 8, 16),
    ],
)
def test_what_is_left_out_of_the_graph_fits_what_is_given(hnsw: dict[str, int], m: int, ef_construction: int) -> None:
    assert index_config(spec(hnsw=hnsw)) == IndexConfig(m=m, ef_construction=ef_construction)


@pytest.mark.parametrize(
    "fields",
    [
        {"index": "ivfflat"},
        {"index": {"kind": "hnsw"}},
        {"hnsw": {"m": 1}},
        {"hnsw": {"m": 101}},
        {"hnsw": {"efConstruction": 1001}},
        {"hnsw": {"efConstruction": 31}},
        {"hnsw": {"m": 40, "efConstruction": 79}},
        {"hnsw": {"ef_construction": 64}},
    ],
)
def test_a_graph_that_pgvector_would_refuse_is_refused_before(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**fields)


@pytest.mark.parametrize(
    ("kind", "column", "dimensions", "expected"),
    [
        ("none", "vector", 768, []),
        ("hnsw", "vector", 768, ["hnsw"]),
        ("hnsw", "vector", 3072, []),
        ("hnsw-halfvec", "vector", 768, ["hnsw-halfvec", "hnsw"]),
        ("hnsw-halfvec", "vector", 3072, ["hnsw-halfvec"]),
        ("hnsw-binary", "vector", 3072, ["hnsw-binary"]),
        ("auto", "vector", 768, ["hnsw-binary", "hnsw-halfvec", "hnsw"]),
        ("auto", "halfvec", 768, ["hnsw-binary", "hnsw"]),
    ],
)
def test_the_smallest_is_tried_first_and_none_that_cannot_be_built(
    kind: Any, column: str, dimensions: int, expected: list[Built]
) -> None:
    assert to_try(IndexConfig(kind=kind), IndexInUse(), column, dimensions) == expected


def test_what_auto_found_wanting_is_not_tried_again_until_something_else_is_asked_for() -> None:
    chosen = IndexInUse(kind="hnsw-halfvec", wanted=AUTO, vectors=1_000)
    assert to_try(AUTO, chosen, "vector", 768) == ["hnsw-halfvec", "hnsw"]
    assert to_try(IndexConfig(kind="auto", m=24), chosen, "vector", 768) == ["hnsw-binary", "hnsw-halfvec", "hnsw"]


def test_what_auto_measured_counts_until_there_are_four_times_as_many_vectors() -> None:
    chosen = IndexInUse(kind="hnsw-binary", wanted=AUTO, vectors=1_000)
    assert chosen.serves(AUTO, 3_999)
    assert not chosen.serves(AUTO, 4_000)
    assert not chosen.serves(IndexConfig(), 1_000)
    declared = IndexInUse(wanted=IndexConfig(), vectors=1_000)
    assert declared.serves(IndexConfig(), 1_000_000)


@pytest.mark.parametrize(
    ("in_use", "wanted", "vectors", "expected"),
    [
        (IndexInUse(), AUTO, 999, ("none", "an exact scan is as fast below 1000 vectors")),
        (IndexInUse(), AUTO, 1_000, ("none", "auto is not built yet")),
        (IndexInUse(kind="hnsw-binary", wanted=AUTO, reason="auto: so"), AUTO, 5_000, ("hnsw-binary", "auto: so")),
        (IndexInUse(), IndexConfig(kind="none"), 5_000, ("none", "spec.embedding.index asks for it")),
    ],
)
def test_it_is_said_what_queries_use_and_why(
    in_use: IndexInUse, wanted: IndexConfig, vectors: int, expected: tuple[str, str]
) -> None:
    assert describe(in_use, wanted, vectors) == expected


def segments(*rows: int, began: float = 0.0, seconds: float = 1.0) -> list[Segment]:
    """Segments of so many vectors, one behind the other."""
    ends = list(accumulate(rows, initial=0))
    return [
        Segment(first=first, end=end, rows=end - first, began=began, seconds=seconds) for first, end in pairwise(ends)
    ]


BUSY, QUIET = 10.0, 100_000.0


@pytest.mark.parametrize(
    ("rows", "unindexed", "now", "expected"),
    [
        ([], 9_000, BUSY, None),
        ([50_000], 1_999, QUIET, None),
        ([50_000], 2_000, BUSY, 0),
        ([50_000, 2_000], 2_000, BUSY, 1),
        ([50_000, 4_000], 2_000, BUSY, 0),
        ([50_000, 4_000, 2_000], 2_000, BUSY, 2),
        ([50_000, 4_000], 2_000, QUIET, 1),
        ([50_000, 16_000, 4_000], 2_000, QUIET, 3),
        ([500_000, 16_000, 4_000], 2_000, QUIET, 2),
        ([50_000, 24_000, 8_000], 2_000, QUIET, 0),
        ([1_000], 2_000, BUSY, 1),
    ],
)
def test_a_segment_is_taken_in_once_what_is_newer_is_as_much_or_at_rest_a_share_of_it(
    rows: list[int], unindexed: int, now: float, expected: int | None
) -> None:
    assert to_fold(segments(*rows), unindexed, now) == expected


def test_many_segments_are_tidied_at_rest_and_left_while_many_vectors_come() -> None:
    many = segments(400_000, 32_000, 16_000, 8_000, 4_000)
    assert to_fold(many, 0, BUSY) is None
    taken = to_fold(many, 0, QUIET)
    assert taken is not None
    assert len(many) - taken + 1 <= 4
    assert to_fold(segments(400_000, 32_000, 28_000), 0, QUIET) is None


def test_a_build_that_would_let_more_than_5000_wait_is_left_for_later() -> None:
    slow_builds = segments(50_000, 20_000, 2_000, began=0.0, seconds=20.0)  # 100 a second
    assert to_fold(slow_builds, 2_000, 4.0) == 0  # while 500 come in each
    assert to_fold(slow_builds, 2_000, 50.0) == 1  # 40: the other 2,000 are taken in
    assert to_fold(segments(50_000, 5_000), 6_000, 10_000.0) == 0


def test_vectors_are_built_into_few_indexes_and_few_segments_stand_however_many_come() -> None:
    """A million vectors, 2,000 at a time: each hour, each minute, and a tenth as fast as they can be built."""
    for pause, most_segments, most_builds in ((3_600.0, 4, 13), (60.0, 9, 9), (20.0, 14, 5)):
        stand, built, now, most = segments(50_000), 0, 0.0, 0
        for _ in range(475):
            now += pause
            taken = to_fold(stand, 2_000, now)
            assert taken is not None
            taken_in = stand[len(stand) - taken :]
            rows = 2_000 + sum(segment.rows for segment in taken_in)
            first = taken_in[0].first if taken_in else stand[-1].end
            new = Segment(first=first, end=first + rows, rows=rows, began=now, seconds=rows / 1_000)
            stand = [*stand[: len(stand) - taken], new]
            assert all(older.end == newer.first for older, newer in pairwise(stand))
            built += rows
            most = max(most, len(stand))
        assert stand[-1].end == 1_000_000
        assert most <= most_segments
        assert built / 950_000 <= most_builds
