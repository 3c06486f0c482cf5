"""What is warned about when the index of a Provider's space is edited."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.edits import COMPATIBLE, manifest, status
from memory_operator.contract.warnings import warnings_for


@pytest.mark.parametrize(
    ("embedding", "text"),
    [
        (
            {"index": "hnsw-binary"},
            "index: built beside the old index, which serves until then; nothing is embedded again",
        ),
        ({"hnsw": {"m": 24}}, "hnsw: built beside the old index, which serves until then; nothing is embedded again"),
        ({"index": "none"}, "index: the index is dropped, and queries read every vector; nothing is embedded again"),
    ],
)
def test_another_index_embeds_nothing_and_beside_another_edit_it_belongs_to_the_new_space(
    embedding: dict[str, Any], text: str
) -> None:
    old = manifest(embedding={"dimensions": 1536}, status=status())
    changed = {"dimensions": 1536, **embedding}
    assert warnings_for(old, manifest(embedding=changed)) == [f"spec.embedding.{text}"]
    found = warnings_for(old, manifest(model="other", embedding=changed))
    assert found[0] == "spec.model: embeds 120500 chunks again into a new space; the old one answers until full"
    assert [warning.partition(":")[0] for warning in found[1:]] == ["spec.embedding.keepFor"]
    assert warnings_for(manifest(embedding=changed), manifest(embedding={**changed, "batchSize": 2})) == []


@pytest.mark.parametrize("index", ["hnsw-halfvec", "hnsw-binary", "none"])
def test_an_index_that_goes_further_than_the_column_lifts_the_limit(index: str) -> None:
    assert warnings_for(None, manifest(COMPATIBLE, embedding={"dimensions": 3072, "index": index})) == []
    assert warnings_for(None, manifest(COMPATIBLE, embedding={"dimensions": 4096, "index": index})) == [
        "spec.embedding.dimensions: 4096 is above 4000, the limit, and is refused"
    ]
    taken_back = warnings_for(
        manifest(COMPATIBLE, embedding={"dimensions": 3072, "index": index}),
        manifest(COMPATIBLE, embedding={"dimensions": 3072, "index": "auto"}),
    )
    assert [text.split(",")[0] for text in taken_back] == ["spec.embedding.dimensions: 3072 is above 2000"]
