"""Memories that are added at the same time share calls and commits, and none suffers from another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fixtures.memories import Memories, config
from fixtures.statements import statements
from fixtures.waiting import ends, until
from memory_operator.engine.memories.prepare import NewMemory
from memory_operator.engine.memories.version_write import StoredMemory
from memory_operator.store.db.activity import Actor
from memory_operator.store.spaces import registry
from memory_operator.store.spaces.spaces import Space
from vendor import Fault, StubVendor

AT_ONCE = 32


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(64) as stub:
        yield stub


async def begun(memories: Memories, vendor: StubVendor) -> Space:
    """A space; tenant and project are known from now on, and the vendor was called once."""
    space = await memories.space(config(64, type="openai_compatible", base_url=vendor.base_url))
    await memories.add("The first one makes the rows.")
    return space


async def add_at_once(memories: Memories, texts: list[str]) -> list[StoredMemory]:
    return await asyncio.gather(*(memories.add(text) for text in texts))


async def of_ledger(memories: Memories) -> int:
    """Tokens of all calls for adds, each of which was answered."""
    assert await memories.world.value("select count(*) from memory_usage_ledger where state <> 'answered'") == 0
    return int(await memories.world.value("select sum(tokens)::int from memory_usage_ledger where purpose = 'add'"))


async def test_adds_at_once_make_few_calls_and_few_transactions(memories: Memories, vendor: StubVendor) -> None:
    space = await begun(memories, vendor)
    vendor.forget()
    async with statements(memories.world.store) as sent:
        stored = await add_at_once(memories, [f"memory number {number}" for number in range(AT_ONCE)])
    assert vendor.count <= AT_ONCE / 4
    assert sum(one.startswith("begin") for one in sent) <= AT_ONCE / 2
    assert {memory.embedding_version for memory in stored} == {space.embedding_version}
    assert sorted(vendor.inputs) == sorted(f"memory number {number}" for number in range(AT_ONCE))
    assert await memories.counted() == {registry.CHUNKS: AT_ONCE + 1, space.id: AT_ONCE + 1}
    for memory in stored:
        assert (await memories.remember.show("default", memory.id)).embedding_status == "embedded"


async def test_each_is_told_its_part_of_what_the_vendor_counted(memories: Memories, vendor: StubVendor) -> None:
    await begun(memories, vendor)
    texts = [f"memory number {number} {'x' * number}" for number in range(AT_ONCE)]
    stored = await add_at_once(memories, texts)
    told = sum(memory.tokens or 0 for memory in stored)
    assert all(memory.tokens for memory in stored)
    first = await memories.world.value("select tokens from memory_usage_ledger order by id limit 1")
    assert told + first == await of_ledger(memories)
    assert await memories.world.value("select sum(tokens)::int from memory_entries") == await of_ledger(memories)


async def test_a_text_that_two_of_them_have_is_paid_once(memories: Memories, vendor: StubVendor) -> None:
    space = await begun(memories, vendor)
    vendor.forget()
    # The first one makes a call of its own, and those that share the next one have two texts.
    stored = await add_at_once(memories, ["alone", *["the same"] * 4, "another"])
    assert sorted(vendor.inputs) == ["alone", "another", "the same"]
    assert sorted(memory.tokens == 0 for memory in stored) == [False] * 3 + [True] * 3
    assert await memories.counted() == {registry.CHUNKS: 7, space.id: 7}


@pytest.mark.parametrize("fault", [Fault(status=400), Fault(status=503), Fault(reset="before"), Fault(value="nan")])
async def test_a_text_that_the_vendor_refuses_is_pending_alone(
    memories: Memories, vendor: StubVendor, fault: Fault
) -> None:
    await begun(memories, vendor)
    vendor.fault = Fault(**{**{name: getattr(fault, name) for name in fault.__slots__}, "containing": "poison"})
    texts = [f"memory number {number}" for number in range(8)]
    stored = await add_at_once(memories, [*texts[:4], "a poisoned memory", *texts[4:]])
    assert [memory.embedding_status for memory in stored] == [*["embedded"] * 4, "pending", *["embedded"] * 4]


async def test_a_memory_that_the_store_refuses_fails_alone(memories: Memories, vendor: StubVendor) -> None:
    space = await begun(memories, vendor)
    poisoned = memories.remember.add("default", NewMemory("one of nobody"), Actor("no\x00body", "127.0.0.1"))
    good = [memories.add(f"memory number {number}") for number in range(8)]
    outcomes = await asyncio.gather(*good[:4], poisoned, *good[4:], return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert failed == [outcomes[4]]
    assert await memories.counted() == {registry.CHUNKS: 9, space.id: 9}


async def test_a_call_that_stalls_keeps_no_other_memory_waiting(memories: Memories, vendor: StubVendor) -> None:
    await begun(memories, vendor)
    vendor.fault = Fault(containing="stalls", hold=True)
    stalling = asyncio.create_task(memories.add("this one stalls"), name="add")
    await until(lambda: vendor.in_flight, "the call is under way")
    stored = await ends(memories.add("this one does not"), "the other memory is stored")
    assert stored.embedding_status == "embedded"
    assert not stalling.done()
    vendor.fault = None
    await stalling


async def test_who_leaves_takes_nothing_from_the_others(memories: Memories, vendor: StubVendor) -> None:
    space = await begun(memories, vendor)
    vendor.forget()
    vendor.fault = Fault(hold=True)
    adds = [asyncio.create_task(memories.add(f"memory number {number}"), name="add") for number in range(5)]
    await until(lambda: sum(len(call.inputs) for call in vendor.calls) >= 5, "all texts are sent")
    adds[0].cancel()
    adds[2].cancel()
    await asyncio.wait([adds[0], adds[2]])
    vendor.fault = None
    stored = await asyncio.gather(adds[1], adds[3], adds[4])
    assert {memory.embedding_status for memory in stored} == {"embedded"}
    assert await memories.counted() == {registry.CHUNKS: 4, space.id: 4}
    assert await memories.world.value("select count(*) from memory_usage_ledger where state = 'sent'") == 0


async def test_what_everybody_has_left_ends(memories: Memories, vendor: StubVendor) -> None:
    await begun(memories, vendor)
    for _ in range(5):
        vendor.forget()
        vendor.fault = Fault(hold=True)
        adds = [asyncio.create_task(memories.add(f"memory number {number}"), name="add") for number in range(5)]
        await until(lambda: sum(len(call.inputs) for call in vendor.calls) >= 5, "all texts are sent")
        assert any(task.get_name().startswith("embed") for task in asyncio.all_tasks())
        for add in adds:
            add.cancel()
        await asyncio.wait(adds)
        left = {task.get_name() for task in asyncio.all_tasks() if not task.done()}
        assert not {name for name in left if name.startswith(("embed", "store"))}
        assert await memories.world.value("select count(*) from memory_usage_ledger where state = 'sent'") == 0
        vendor.fault = None
        await until(lambda: not vendor.in_flight, "the vendor has no call in hand")


async def test_no_call_has_texts_of_two_tenants(memories: Memories, vendor: StubVendor) -> None:
    await begun(memories, vendor)
    await memories.add("The first one of another.", tenant="another")
    vendor.forget()
    await asyncio.gather(
        *(
            memories.add(f"memory {number} of {who}", tenant=who)
            for number in range(8)
            for who in ("default", "another")
        )
    )
    assert 2 <= vendor.count < 16
    for call in vendor.calls:
        assert len({text.rpartition(" ")[2] for text in call.inputs}) == 1
    paid = await memories.world.fetch("select tenant_id, sum(inputs)::int from memory_usage_ledger group by tenant_id")
    assert sorted(row["sum"] for row in paid) == [9, 9]


async def test_memories_of_other_spaces_by_now_are_stored_all_the_same(memories: Memories, vendor: StubVendor) -> None:
    await begun(memories, vendor)
    for number in range(10):
        late = await memories.space(config(32, model=f"m{number}"), f"late-{number}")
        stored = await add_at_once(memories, [f"memory {each} of {number}" for each in range(8)])
        assert {memory.embedding_version for memory in stored} == {late.embedding_version}
        assert (await memories.counted())[late.id] == 8
