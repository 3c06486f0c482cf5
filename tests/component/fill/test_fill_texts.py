"""What is sent for which texts: a text is paid once for each tenant, and batches stay within what a vendor takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures.engine import World
from fixtures.fills import complete, provider, sent, sound
from fixtures.waiting import until
from memory_operator.store.jobs import missing
from memory_operator.store.spaces import vectors
from vendor.script import Fault
from vendor.stub import StubVendor


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def test_a_text_that_many_memories_have_is_paid_once_for_each_tenant(world: World, vendor: StubVendor) -> None:
    texts = [f"text {number % 7}" for number in range(70)]
    await world.stored_texts(texts, "one")
    await world.stored_texts(texts, "two")
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert sorted(sent(vendor)) == sorted([f"text {number}" for number in range(7)] * 2)
    assert await world.value("select done = 140 and copied = 126 from memory_reembed_jobs")


async def test_a_text_far_away_in_another_range_is_not_paid_again(
    world: World, vendor: StubVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.stored_texts([f"text {number % 2_500}" for number in range(5_000)])
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor, batchSize=500))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert len(sent(vendor)) == len(set(sent(vendor))) == 2_500


async def test_a_vector_that_the_space_has_of_the_same_text_is_copied(world: World, vendor: StubVendor) -> None:
    await world.stored_texts(["known", "also known"])
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", provider(vendor))
        await world.until_phase(ref, "Ready")
        vendor.forget()
        await world.stored_texts(["known", "new", "also known"])
        await world.store_pending(1)
        await until(lambda: world.value("select count(*) = 5 from memory_vectors_1"), "five vectors are stored")
    await sound(world)
    assert sent(vendor) == ["new"]


async def test_texts_like_one_in_quarantine_go_there_without_being_sent(world: World, vendor: StubVendor) -> None:
    await world.stored_texts(["poison", *[f"good {number}" for number in range(20)], "poison", "poison"])
    vendor.fault = Fault(status=400, containing="poison")
    async with world.operator(), world.worker():
        world.cluster.apply("memory", provider(vendor))
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert await world.value("select count(*) from memory_embedding_quarantine") == 3


async def test_a_batch_stays_within_the_tokens_that_the_vendor_takes_in_a_request(
    world: World, vendor: StubVendor
) -> None:
    await world.stored_texts([f"{number} " + "word " * 8_000 for number in range(60)])
    spec = {**provider(vendor, batchSize=2_048), "type": "openai", "credential": {"secretRef": {"name": "key"}}}
    world.cluster.secrets[("default", "key")] = {"api-key": "k"}
    async with world.operator(), world.worker():
        world.cluster.apply("memory", spec)
        await until(lambda: complete(world), "the fill is complete")
    await sound(world)
    assert max(sum(len(text) for text in call.inputs) / 3 for call in vendor.calls) <= 300_000
    assert max(len(call.inputs) for call in vendor.calls) > 5


async def test_what_is_missing_is_found_without_looking_at_the_whole_of_any_table(world: World) -> None:
    await world.stored_texts([f"text {number}" for number in range(6_000)])
    async with world.store.connection() as conn:
        await conn.execute(
            "create table memory_vectors_9 (chunk_id bigint primary key, project_id int, embedding vector(8))"
        )
        await conn.execute(
            "insert into memory_vectors_9 select id, project_id, array_fill(1, array[8])::vector from memory_chunks"
            " where id % 3 > 0"
        )
        for analysed in (False, True):
            if analysed:
                await conn.execute("analyze memory_vectors_9, memory_chunks, memory_entries")
            lines = await conn.fetch(
                "explain "
                + vectors.for_space(missing.LACKING_IN_RANGE, 9)
                .replace("$1", "2400")
                .replace("$2", "3000")
                .replace("$3", "9")
                .replace("$4", "null")
            )
            plan = "\n".join(line[0] for line in lines)
            assert "Seq Scan on memory_vectors_9" not in plan, plan
            assert "Seq Scan on memory_chunks" not in plan, plan
