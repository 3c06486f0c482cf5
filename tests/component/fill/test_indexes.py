"""The index of a space: built as its Provider says, chosen by what it finds, replaced beside; nothing is embedded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fixtures.engine import World
from fixtures.fills import complete, provider, sent, sound
from fixtures.memories import Memories
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderRef
from memory_operator.contract.status import EmbeddingStatus
from memory_operator.engine.admin.consents import Consents
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.errors import InvalidInput
from memory_operator.http.schemas.spaces import SpaceAnswer
from memory_operator.plan.index import FROM_VECTORS
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def indexes(world: World, space_id: int = 1) -> list[str]:
    """Definitions of the complete vector indexes of a space, behind their method."""
    rows = await world.fetch(
        "select pg_get_indexdef(indexrelid) as text from pg_index where indrelid = $1::regclass and indisvalid",
        f"memory_vectors_{space_id}",
    )
    return [row["text"].partition("USING hnsw ")[2] for row in rows if "USING hnsw" in row["text"]]


def status(world: World, ref: ProviderRef) -> EmbeddingStatus:
    found = world.cluster.statuses[ref].embedding
    assert found is not None
    return found


async def uses(world: World, ref: ProviderRef, kind: str) -> None:
    """Wait until the status says that queries use an index."""
    await until(lambda: status(world, ref).index == kind, f"queries use index {kind}")


EDITS: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"index": "hnsw-halfvec"}, "hnsw-halfvec", ["(((embedding)::halfvec(64)) halfvec_cosine_ops)"]),
    (
        {"index": "hnsw-halfvec", "hnsw": {"m": 8, "efConstruction": 32}},
        "hnsw-halfvec",
        ["(((embedding)::halfvec(64)) halfvec_cosine_ops) WITH (m='8', ef_construction='32')"],
    ),
    ({"index": "hnsw-binary"}, "hnsw-binary", ["(((binary_quantize(embedding))::bit(64)) bit_hamming_ops)"]),
    ({"index": "hnsw-binary", "distance": "l2"}, "hnsw-binary", ["bit_hamming_ops"]),
    ({"index": "none"}, "none", []),
    ({"index": "hnsw"}, "hnsw", ["(embedding vector_cosine_ops)"]),
    ({}, "hnsw", ["(embedding vector_cosine_ops)"]),
]


async def test_an_edit_of_the_index_builds_it_beside_and_embeds_nothing_again(
    world: World, memories: Memories, vendor: StubVendor
) -> None:
    await world.stored(FROM_VECTORS)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor, batchSize=500))
        await until(lambda: complete(world), "the space is ready")
        assert len(await indexes(world)) == 1
        found = [hit.id for hit in (await memories.query("memory number 7", k=5)).results]
        for embedding, kind, definitions in EDITS:
            world.cluster.apply("memory", provider(vendor, batchSize=500, **embedding))
            await uses(world, ref, kind)
            await until(
                lambda definitions=definitions: _are(world, definitions), f"the one index of {embedding} is there"
            )
            now = await memories.query("memory number 7", k=5)
            assert [hit.id for hit in now.results] == found
            assert now.diagnostics.semantic_status == "ok"
        assert world.cluster.statuses[ref].phase == "Ready"
    assert len([text for text in sent(vendor) if text != "memory number 7"]) == FROM_VECTORS  # each once
    assert await world.value("select count(*) from memory_embedding_spaces") == 1
    await sound(world)


async def _are(world: World, definitions: list[str]) -> bool:
    found = await indexes(world)
    return len(found) == len(definitions) and all(part in text for part, text in zip(definitions, found, strict=True))


async def test_auto_takes_the_smallest_that_finds_enough_and_says_so(world: World, vendor: StubVendor) -> None:
    await world.stored(FROM_VECTORS)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor, batchSize=500, index="auto"))
        assert status_before(world, ref) in (None, "none")
        await until(lambda: complete(world), "the space is ready")
        await until(lambda: status(world, ref).index != "none", "an index is in use")
        told = status(world, ref)
        [view] = await Catalog(world.store).spaces()
        shown = SpaceAnswer.of(view)
    assert told.index_reason is not None
    assert told.index_reason.startswith("auto: recall@10 ")
    assert f"over {FROM_VECTORS} vectors" in told.index_reason
    assert (shown.index, shown.index_reason) == (told.index, told.index_reason)
    [definition] = await indexes(world)
    of_kind = {"hnsw-binary": "bit_hamming_ops", "hnsw-halfvec": "halfvec_cosine_ops", "hnsw": "(embedding vector_"}
    assert of_kind[str(told.index)] in definition
    tried = list(of_kind)[: list(of_kind).index(str(told.index))]
    assert all(f"{kind} finds" in told.index_reason for kind in tried)


def status_before(world: World, ref: ProviderRef) -> str | None:
    """What a status says of the index, if there is one by now."""
    found = world.cluster.statuses.get(ref)
    return found.embedding.index if found and found.embedding else None


async def test_a_model_of_3072_dimensions_works_on_a_plain_column_with_a_halfvec_index_and_not_without(
    world: World, memories: Memories
) -> None:
    await world.stored(FROM_VECTORS)
    with StubVendor(dimensions=3072) as vendor:
        async with world.operator(), world.worker():
            ref = world.cluster.apply("memory", provider(vendor, dimensions=3072, batchSize=250))
            await until(
                lambda: _refusal(world, ref), "the dimension is refused, and the refusal names what would allow it"
            )
            assert "spec.embedding.index: hnsw-halfvec" in _refusal(world, ref)
            with pytest.raises(InvalidInput):
                await Consents(world.store).provider_for(3072, None)
            spec = provider(vendor, dimensions=3072, batchSize=250, index="hnsw-halfvec")
            world.cluster.apply("memory", spec)
            await until(lambda: complete(world), "the space is ready")
            await uses(world, ref, "hnsw-halfvec")
            assert await _are(world, ["((embedding)::halfvec(3072)) halfvec_cosine_ops"])
            assert await Consents(world.store).provider_for(3072, None) == "default/memory"
            added = await memories.add("The pump of the mill is painted green.")
            assert added.embedding_status == "embedded"
            answer = await memories.query("The pump of the mill is painted green.", k=1)
            assert (answer.diagnostics.semantic_status, answer.results[0].id) == ("ok", added.id)
    kind = "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = $1::regclass and attname = $2"
    assert await world.value(kind, "memory_vectors_1", "embedding") == "vector(3072)"
    await sound(world)


def _refusal(world: World, ref: ProviderRef) -> str:
    condition = world.cluster.condition(ref, "DimensionSettled") if ref in world.cluster.statuses else None
    return condition.message if condition and condition.reason == "DimensionAboveLimit" else ""


async def test_numbers_that_16_bits_cannot_hold_leave_the_space_with_the_index_of_full_precision(
    world: World, vendor: StubVendor
) -> None:
    await world.stored(FROM_VECTORS)
    async with world.operator():
        async with world.worker():
            ref = world.cluster.apply("memory", provider(vendor, batchSize=500))
            await until(lambda: complete(world), "the space is ready")
        scaled = "(select array_agg(n * 1e6 order by o) from unnest(embedding::float4[]) with ordinality as u (n, o))"
        await world.fetch(f"update memory_vectors_1 set embedding = {scaled}::float4[]::vector where chunk_id = 1")
        async with world.worker():
            world.cluster.apply("memory", provider(vendor, batchSize=500, index="hnsw-halfvec"))
            await until(
                lambda: "cannot hold" in (status(world, ref).index_reason or ""), "the status says what is in the way"
            )
            assert status(world, ref).index == "hnsw"
    assert len(await indexes(world)) == 1
