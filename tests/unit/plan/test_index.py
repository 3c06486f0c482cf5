"""Which index a space is to have: what a spec asks for, what is tried for it, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from memory_operator.contract.provider import EmbeddingSpec
from memory_operator.plan.index import Built, IndexConfig, IndexInUse, describe, index_config, to_try

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
