"""How similar a project's vectors are to each other: measured by workers, read by queries."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.memories import Memories, config
from memory_operator.engine.fill.dispersions import DispersionMeasure, measure_some
from memory_operator.memory.dispersion import dispersion_of
from memory_operator.memory.fusion import Dispersion
from memory_operator.store.spaces import dispersions
from memory_operator.store.spaces.spaces import Space

VECTORS = np.array([[1, 0], [0, 2], [1.2, 1.6]], dtype=np.float32)


@pytest.mark.parametrize(
    ("distance", "similarities"),
    [
        ("cosine", [0, 0.6, 0.8]),
        ("dot", [0, 1.2, 3.2]),
        ("l2", [1 / (1 + 5**0.5), 1 / (1 + (0.04 + 2.56) ** 0.5), 1 / (1 + (1.44 + 0.16) ** 0.5)]),
    ],
)
def test_a_dispersion_is_of_the_similarities_that_the_semantic_channel_gives(distance, similarities):
    measured = dispersion_of(VECTORS, distance)
    assert measured.mean == pytest.approx(np.mean(similarities), abs=1e-6)
    assert measured.deviation == pytest.approx(np.std(similarities), abs=1e-6)


async def found(memories: Memories, space: Space, project: int) -> Dispersion | None:
    async with memories.world.store.connection() as conn:
        return await dispersions.find(conn, space.id, project)


async def test_a_project_is_measured_once_it_has_some_vectors_and_again_when_they_doubled(memories: Memories) -> None:
    space, store = await memories.space(config()), memories.world.store
    for number in range(dispersions.FEWEST_VECTORS - 1):
        await memories.add(f"memory {number}")
    assert await measure_some(store, space, 9) == 0
    await memories.add("one more")
    assert await measure_some(store, space, 9) == 1
    assert await measure_some(store, space, 9) == 0
    async with store.connection() as conn:
        project = await conn.fetchval("select project_id from memory_space_dispersions")
    first = await found(memories, space, project)
    assert first is not None
    assert 0 < first.deviation < 1
    assert await found(memories, space, project + 1) == first  # what is usual in the space
    for number in range(dispersions.FEWEST_VECTORS):
        await memories.add(f"something else altogether, {number} times {number * 7}")
    assert await measure_some(store, space, 9) == 1
    assert await found(memories, space, project) != first


async def test_nothing_is_measured_while_no_vector_comes_and_a_discarded_space_takes_its_figures_along(
    memories: Memories,
) -> None:
    space, measure = await memories.space(config()), DispersionMeasure(memories.world.store)
    assert await found(memories, space, 1) is None
    for number in range(dispersions.FEWEST_VECTORS):
        await memories.add(f"memory {number}")
    assert await measure.measure() is False
    async with memories.world.store.connection() as conn:
        assert await conn.fetchval("select count(*) from memory_space_dispersions") == 1
        await conn.execute("delete from memory_embedding_spaces")
        assert await conn.fetchval("select count(*) from memory_space_dispersions") == 0
