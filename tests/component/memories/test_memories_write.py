"""Writing memories on a real database: what is stored, what waits, and what is erased."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from fixtures.engine import MASTER_KEY
from fixtures.memories import AGENT, Memories, config
from fixtures.waiting import ends, until
from memory_operator.engine.memories.remember import ADD_DEADLINE_SECONDS, Changes
from memory_operator.errors import InvalidInput, NotFound
from memory_operator.memory.attributes import PlainAttributes
from memory_operator.memory.encryption import MasterKey
from memory_operator.store.spaces import registry, spaces
from vendor import Fault, StubVendor


def vendor_config(vendor: StubVendor, **changes: object):  # type: ignore[no-untyped-def]
    return config(64, type="openai_compatible", base_url=vendor.base_url, **changes)


async def test_a_memory_is_embedded_at_once_and_its_answer_says_by_what(memories: Memories) -> None:
    space = await memories.space(config())
    stored = await memories.add("The operator sizes the columns.", tags=("k8s",), importance=0.5)
    assert (stored.project, stored.version_no, stored.chunks) == ("default", 1, 1)
    assert (stored.embedding_version, stored.embedding_status) == (space.embedding_version, "embedded")
    assert stored.tokens == 5
    assert stored.cost is None
    shown = await memories.remember.show("default", stored.id)
    assert shown.memory.text == "The operator sizes the columns."
    assert (shown.memory.attributes.tags, shown.memory.attributes.importance) == (("k8s",), 0.5)
    assert (shown.embedding_version, shown.embedding_status) == (space.embedding_version, "embedded")
    assert await memories.counted() == {registry.CHUNKS: 1, space.id: 1}


async def test_what_was_paid_is_exact(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(vendor_config(vendor, input_cost_per_1k=Decimal("0.00002")))
        stored = await memories.add("abcdefgh")
        assert stored.tokens == 3
        assert stored.cost == Decimal("0.00000006")
        shown = await memories.remember.show("default", stored.id)
        assert (shown.memory.tokens, shown.memory.cost) == (3, Decimal("0.00000006"))
        vendor.fault = Fault(no_usage=True)
        stored = await memories.add("ijklmnop")
        assert (stored.embedding_status, stored.tokens, stored.cost) == ("embedded", None, None)


async def test_a_text_that_a_memory_has_already_is_not_paid_again(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        space = await memories.space(vendor_config(vendor))
        await memories.add("The operator sizes the columns.")
        stored = await memories.add("The operator sizes the columns.", project="another")
        assert (stored.embedding_status, stored.tokens) == ("embedded", 0)
        assert vendor.inputs == ["The operator sizes the columns."]
    assert await memories.counted() == {registry.CHUNKS: 2, space.id: 2}


async def test_nothing_readable_is_in_the_tables(memories: Memories) -> None:
    await memories.space(config())
    secret = "xylophone"
    await memories.add(f"{secret} one", summary=f"{secret} two", metadata={secret: secret})
    for table in ("memory_entries", "memory_chunks", "memory_tenants", "memory_projects"):
        columns = "t.*" if table != "memory_chunks" else "t.text, t.content_hash"  # tsv does leak words, as documented
        rows = await memories.world.fetch(f"select ({columns})::text as row from {table} t")
        assert secret not in str([row["row"] for row in rows])
        assert secret.encode().hex() not in str([row["row"] for row in rows])


async def test_a_long_text_becomes_chunks_with_a_vector_each(memories: Memories) -> None:
    space = await memories.space(config())
    text = "\n\n".join(f"Paragraph {number} says something about number {number}." * 3 for number in range(60))
    stored = await memories.add(text)
    assert stored.chunks > 5
    assert await memories.counted() == {registry.CHUNKS: stored.chunks, space.id: stored.chunks}
    assert (await memories.remember.show("default", stored.id)).memory.text == text


async def test_a_space_that_is_about_to_be_completed_gets_its_vectors_beside_the_active_one(memories: Memories) -> None:
    with StubVendor(64) as one, StubVendor(32) as two:
        active = await memories.space(vendor_config(one))
        beside = await memories.space(
            config(32, type="openai_compatible", base_url=two.base_url), "other", active=False, state="filling"
        )
        await memories.world.fetch(
            "insert into memory_reembed_jobs (space_id, bound, total, closing_at) values ($1, 0, 0, now())", beside.id
        )
        one.fault, two.fault = Fault(hold=True), Fault(hold=True)
        adding = asyncio.create_task(memories.add("both of them"))
        await until(lambda: one.in_flight and two.in_flight, "both vendors are called at once")
        two.fault = one.fault = None
        stored = await adding
        assert stored.embedding_version == active.embedding_version
        assert await memories.counted() == {registry.CHUNKS: 1, active.id: 1, beside.id: 1}


async def test_a_slow_space_beside_does_not_hold_up_the_answer(memories: Memories) -> None:
    with StubVendor(64) as one, StubVendor(32) as two:
        await memories.space(vendor_config(one))
        beside = await memories.space(
            config(32, type="openai_compatible", base_url=two.base_url), "other", active=False, state="filling"
        )
        two.fault = Fault(hold=True)
        stored = await ends(memories.add("both of them"), "the answer, while the second vendor is silent")
        assert stored.embedding_status == "embedded"
        assert await memories.world.value("select space_id from memory_embedding_pending") == beside.id


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=401),
        Fault(status=400),
        Fault(length=1),
        Fault(value="nan"),
        Fault(reset="before"),
    ],
    ids=["unavailable", "refused", "rejected", "wrong length", "not a number", "cut off"],
)
async def test_an_embedder_in_trouble_never_loses_a_write(memories: Memories, fault: Fault) -> None:
    with StubVendor(64) as vendor:
        space = await memories.space(vendor_config(vendor))
        vendor.fault = fault
        stored = await memories.add("kept")
        assert (stored.embedding_status, stored.embedding_version) == ("pending", None)
        assert (stored.tokens, stored.cost) == (None, None)
        assert await memories.world.value("select count(*) from memory_embedding_pending") == 1
        assert await memories.counted() == {registry.CHUNKS: 1}
        shown = await memories.remember.show("default", stored.id)
        assert (shown.memory.text, shown.embedding_status) == ("kept", "pending")
        vendor.fault = None
        async with memories.world.worker():
            await _embedded(memories, stored.id)
        assert await memories.counted() == {registry.CHUNKS: 1, space.id: 1}


async def test_an_embedder_that_hangs_is_waited_for_eight_seconds_at_most(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(vendor_config(vendor))
        vendor.fault = Fault(hold=True)
        stored = await ends(memories.add("kept"), "the answer, while the vendor is silent")
        assert ADD_DEADLINE_SECONDS == 8
        assert stored.embedding_status == "pending"
        vendor.fault = None


async def test_without_any_space_a_memory_is_stored_all_the_same(memories: Memories) -> None:
    stored = await memories.add("early bird")
    assert (stored.embedding_version, stored.embedding_status, stored.tokens) == (None, "pending", None)
    assert await memories.world.value("select count(*) from memory_embedding_pending") == 0
    assert await memories.counted() == {registry.CHUNKS: 1}


async def test_a_space_that_came_while_a_memory_was_embedded_gets_it_as_pending(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        active = await memories.space(vendor_config(vendor))
        vendor.fault = Fault(hold=True)
        adding = asyncio.create_task(memories.add("in between"), name="add")
        await asyncio.to_thread(vendor.wait_for_calls, 1)
        late = await memories.space(config(16), "late", active=False, state="filling")
        vendor.fault = None
        stored = await adding
        assert stored.embedding_version == active.embedding_version
        assert await memories.world.value("select space_id from memory_embedding_pending") == late.id


async def test_a_space_that_went_while_a_memory_was_embedded_is_forgotten(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        active = await memories.space(vendor_config(vendor))
        vendor.fault = Fault(hold=True)
        adding = asyncio.create_task(memories.add("in between"), name="add")
        await asyncio.to_thread(vendor.wait_for_calls, 1)
        async with memories.world.store.transaction() as conn:
            await registry.lock_registry_exclusive(conn)
            await spaces.discard(conn, active)
        vendor.fault = None
        stored = await adding
        assert (stored.embedding_status, stored.embedding_version) == ("pending", None)
        assert await memories.counted() == {registry.CHUNKS: 1}


async def test_a_switch_waits_for_a_writer_and_a_writer_for_a_switch(memories: Memories) -> None:
    await memories.space(config())
    async with memories.world.store.transaction() as conn:
        await registry.lock_registry_exclusive(conn)
        adding = asyncio.create_task(memories.add("after the switch"), name="add")
        done, _ = await asyncio.wait([adding], timeout=0.3)
        assert not done
    assert (await adding).embedding_status == "embedded"


async def test_an_amendment_is_a_new_version_and_the_old_one_is_found_no_more(memories: Memories) -> None:
    space = await memories.space(config())
    first = await memories.add("The database runs on port 5432.", type="fact", tags=("db",))
    second = await memories.remember.amend("default", first.id, Changes("The database runs on port 6432."), AGENT)
    assert (second.id, second.version_no, second.embedding_status) == (first.id, 2, "embedded")
    shown = (await memories.remember.show("default", first.id)).memory
    assert (shown.text, shown.attributes.type, shown.attributes.tags) == (
        "The database runs on port 6432.",
        "fact",
        ("db",),
    )
    assert await memories.counted() == {registry.CHUNKS: 1, space.id: 1}
    versions = await memories.remember.history("default", first.id)
    assert [(v.version_no, v.current, v.text) for v in versions] == [
        (2, True, "The database runs on port 6432."),
        (1, False, "The database runs on port 5432."),
    ]


async def test_an_amendment_that_leaves_the_text_pays_nothing_and_stays_embedded(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        space = await memories.space(vendor_config(vendor))
        first = await memories.add("unchanged text")
        vendor.stop()
        second = await memories.remember.amend(
            "default", first.id, Changes(attributes={"tags": ("new",), "summary": None}), AGENT
        )
        assert (second.embedding_status, second.tokens, second.cost) == ("embedded", 0, Decimal(0))
        assert vendor.count == 1
        assert await memories.counted() == {registry.CHUNKS: 1, space.id: 1}


async def test_of_a_long_text_only_the_changed_chunks_are_embedded_again(memories: Memories) -> None:
    with StubVendor(64) as vendor:
        await memories.space(vendor_config(vendor))
        parts = [f"Chapter {number}. " + f"Sentence about {number}. " * 45 for number in range(8)]
        first = await memories.add("\n\n".join(parts))
        vendor.forget()
        parts[3] = parts[3].replace("Sentence", "Statement")
        second = await memories.remember.amend("default", first.id, Changes("\n\n".join(parts)), AGENT)
        assert second.embedding_status == "embedded"
        assert 1 <= len(vendor.inputs) < second.chunks / 2
        assert all("Statement" in text for text in vendor.inputs)


async def test_amendments_at_the_same_time_all_count(memories: Memories) -> None:
    await memories.space(config())
    first = await memories.add("start")
    await asyncio.gather(
        memories.remember.amend("default", first.id, Changes(attributes={"tags": ("a",)}), AGENT),
        memories.remember.amend("default", first.id, Changes(attributes={"source": "b"}), AGENT),
        memories.remember.amend("default", first.id, Changes(attributes={"importance": 0.25}), AGENT),
    )
    shown = (await memories.remember.show("default", first.id)).memory
    assert (shown.version_no, shown.attributes) == (4, PlainAttributes(tags=("a",), source="b", importance=0.25))
    assert (await memories.counted())[registry.CHUNKS] == 1


async def test_a_forgotten_memory_is_gone_but_its_history_stays(memories: Memories) -> None:
    await memories.space(config())
    stored = await memories.add("short lived")
    await memories.remember.forget("default", stored.id, AGENT)
    with pytest.raises(NotFound):
        await memories.remember.show("default", stored.id)
    with pytest.raises(NotFound):
        await memories.remember.forget("default", stored.id, AGENT)
    with pytest.raises(NotFound):
        await memories.remember.amend("default", stored.id, Changes(attributes={"tags": ()}), AGENT)
    assert await memories.counted() == {}
    versions = await memories.remember.history("default", stored.id)
    assert [(v.version_no, v.tombstone, v.text) for v in versions] == [(2, True, None), (1, False, "short lived")]


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_purge_erases_every_version_in_every_space_and_confirms_it(memories: Memories, forgotten: bool) -> None:
    active = await memories.space(config())
    beside = await memories.space(config(32), "other", active=False)
    other = await memories.add("stays")
    stored = await memories.add("first words", tags=("tag",), source="there", summary="sum", metadata={"a": 1})
    await memories.remember.amend("default", stored.id, Changes("second words"), AGENT)
    async with memories.world.worker():
        await until(
            lambda: memories.world.value("select count(*) = 0 from memory_embedding_pending"), "both spaces are filled"
        )
    if forgotten:
        await memories.remember.forget("default", stored.id, AGENT)
    erased = await memories.remember.purge("default", stored.id, AGENT)
    assert erased.chunks == 2
    assert erased.vectors == ({} if forgotten else {active.embedding_version: 1, beside.embedding_version: 1})
    with pytest.raises(NotFound):
        await memories.remember.show("default", stored.id)
    versions = await memories.remember.history("default", stored.id)
    assert [(v.version_no, v.tombstone, v.purged) for v in versions] == [
        (3, True, False),
        (2, False, True),
        (1, False, True),
    ]
    assert all((v.text, v.attributes) == (None, PlainAttributes()) for v in versions)
    assert await memories.counted() == {registry.CHUNKS: 1, active.id: 1, beside.id: 1}
    assert (await memories.remember.show("default", other.id)).memory.text == "stays"
    assert await memories.world.value("select kind from memory_activity") == "memory_purged"
    again = await memories.remember.purge("default", stored.id, AGENT)
    assert (again.chunks, again.vectors) == (0, {})


async def test_another_tenants_memory_does_not_exist(memories: Memories) -> None:
    await memories.space(config())
    stored = await memories.add("mine")
    await memories.add("theirs", tenant="stranger")
    for tenant in ("stranger", "nobody"):
        with pytest.raises(NotFound):
            await memories.remember.show(tenant, stored.id)
        with pytest.raises(NotFound):
            await memories.remember.history(tenant, stored.id)
        with pytest.raises(NotFound):
            await memories.remember.amend(tenant, stored.id, Changes(attributes={"tags": ()}), AGENT)
        with pytest.raises(NotFound):
            await memories.remember.forget(tenant, stored.id, AGENT)
        with pytest.raises(NotFound):
            await memories.remember.purge(tenant, stored.id, AGENT)
    with pytest.raises(NotFound):
        await memories.remember.show("default", uuid4())
    assert await memories.world.value("select count(*) from memory_tenants") == 2


async def test_characters_that_no_table_takes_do_no_harm(memories: Memories) -> None:
    await memories.space(config())
    stored = await memories.add("nul \x00 and half a pair \ud800", summary="a\x00b\ud800", metadata={"k\x00": "\ud800"})
    shown = (await memories.remember.show("default", stored.id)).memory
    assert shown.text == "nul \x00 and half a pair \ufffd"
    assert (shown.attributes.summary, shown.attributes.metadata) == ("a\x00b\ufffd", {"k\x00": "\ufffd"})


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": ("a\x00b",)},
        {"tags": ("",)},
        {"tags": ("t",) * 65},
        {"type": "\ud800"},
        {"source": "x" * 201},
        {"project": ""},
        {"project": "a\nb"},
        {"importance": 1.5},
        {"confidence": float("nan")},
        {"metadata": {"a": float("inf")}},
        {"metadata": {"a": "x" * 70_000}},
    ],
)
async def test_what_cannot_be_stored_is_refused_before_anything_is_paid(
    memories: Memories, fields: dict[str, object]
) -> None:
    with StubVendor(64) as vendor:
        await memories.space(vendor_config(vendor))
        with pytest.raises(InvalidInput):
            await memories.add("text", **fields)
        with pytest.raises(InvalidInput):
            await memories.add(" \x00 ")
        assert vendor.count == 0
    assert await memories.world.value("select count(*) from memory_entries") == 0


async def test_a_mebibyte_of_text_is_stored_without_holding_up_the_loop(memories: Memories) -> None:
    space = await memories.space(config())
    text = "Some sentence with words in it, and a comma. " * 23_000
    worst = 0.0

    async def heartbeat() -> None:
        nonlocal worst
        while True:
            started = time.thread_time()
            await asyncio.sleep(0.005)
            worst = max(worst, time.thread_time() - started)

    beating = asyncio.create_task(heartbeat(), name="heartbeat")
    stored = await memories.add(text)
    beating.cancel()
    assert stored.embedding_status == "embedded"
    assert await memories.counted() == {registry.CHUNKS: stored.chunks, space.id: stored.chunks}
    assert worst < 1.0


async def test_the_same_text_hashes_alike_for_one_tenant_only(memories: Memories) -> None:
    await memories.add("same")
    await memories.add("same")
    await memories.add("same", tenant="other")
    hashes = await memories.world.fetch("select content_hash from memory_chunks order by id")
    assert hashes[0] == hashes[1] != hashes[2]


async def test_a_stolen_dump_is_useless_with_another_master_key(memories: Memories) -> None:
    await memories.add("words")
    wrapped = await memories.world.value("select wrapped_key from memory_tenants")
    assert MASTER_KEY not in wrapped
    assert MasterKey(MASTER_KEY).unwrap("default", wrapped).tenant == "default"


async def _embedded(memories: Memories, memory_id: UUID) -> None:
    async def embedded() -> bool:
        return (await memories.remember.show("default", memory_id)).embedding_status == "embedded"

    await until(embedded, "the pending memory is embedded")
