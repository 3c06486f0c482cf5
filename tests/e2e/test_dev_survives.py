"""`dev` is killed, its database is restarted, writers write all the while: nothing is lost, nothing is doubled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fixtures.dev import Dev
from fixtures.waiting import eventually
from memory_operator.dev.postgres.server import EmbeddedPostgres
from vendor.stub import StubVendor

CONSENT = "/admin/embedding-dimension-change"
MISSING = (
    "select count(*) as n from memory_chunks c where c.live and not exists"
    " (select 1 from memory_vectors_{space} v where v.chunk_id = c.id)"
)


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def provider(vendor: StubVendor, dimensions: int = 64, **spec: Any) -> dict[str, Any]:
    return {
        "type": "openai_compatible",
        "model": "stub",
        "baseURL": vendor.base_url,
        "embedding": {"dimensions": dimensions, "batchSize": 8},
        **spec,
    }


def add(dev: Dev, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        dev.post("/memory/add", {"text": f"memory number {number}"})


async def nothing_is_missing(dev: Dev) -> None:
    """Every live chunk has a vector in the active space, and the counters say the truth."""
    space = (await dev.sql("select active_space_id as id from memory_registry"))[0]["id"]
    assert (await dev.sql(MISSING.format(space=space)))[0]["n"] == 0
    counted = await dev.sql("select scope, sum(n) as n from memory_embedding_counters group by scope")
    counts = {row["scope"]: row["n"] for row in counted}
    live = (await dev.sql("select count(*) as n from memory_chunks where live"))[0]["n"]
    vectors = (await dev.sql(f"select count(*) as n from memory_vectors_{space}"))[0]["n"]
    assert (counts[0], counts[space]) == (live, vectors)
    assert live == vectors


async def test_everything_is_still_there_after_a_stop_and_after_a_kill(dev: Dev, vendor: StubVendor) -> None:
    dev.apply("memory", provider(vendor))
    dev.start()
    dev.until_ready(64)
    add(dev, 5)
    for end in (dev.stop, dev.kill):
        end()
        dev.start()
        found = dev.post("/memory/query", {"query": "memory number 3"})
        assert found["results"][0]["text"] == "memory number 3"
        assert found["diagnostics"]["semantic_status"] == "ok"
    assert vendor.count < 20
    await nothing_is_missing(dev)


async def test_a_kill_in_the_middle_of_a_fill_loses_nothing_and_repeats_at_most_what_was_in_flight(
    dev: Dev, vendor: StubVendor
) -> None:
    dev.apply("memory", provider(vendor))
    dev.start()
    dev.until_ready(64)
    add(dev, 200)
    vendor.forget()
    vendor.latency_ms = 100
    dev.apply("memory", provider(vendor, model="other"))
    eventually(lambda: len([i for i in vendor.inputs if "memory number" in i]) > 60, "a part of the fill")
    dev.kill()
    vendor.latency_ms = 0
    dev.start()
    eventually(lambda: (dev.space("other-64-2") or {}).get("active"), "the switch")
    await nothing_is_missing(dev)
    paid = [text for text in vendor.inputs if "memory number" in text]
    assert len(set(paid)) == 200
    in_flight = await dev.sql("select coalesce(sum(inputs), 0) as n from memory_usage_ledger where state = 'sent'")
    assert len(paid) - 200 <= in_flight[0]["n"]


async def test_a_kill_right_after_consent_applies_the_change_once(dev: Dev, vendor: StubVendor) -> None:
    dev.apply("memory", provider(vendor))
    dev.start()
    dev.until_ready(64)
    add(dev, 20)
    dev.apply("memory", provider(vendor, 32))
    eventually(lambda: dev.get(CONSENT)["held"], "the held change")
    dev.post(CONSENT, {"target_dim": 32})
    dev.kill()
    dev.start()
    dev.until_ready(32)
    await nothing_is_missing(dev)
    assert [row["n"] for row in await dev.sql("select count(*) as n from memory_activity where kind = 'reshape'")] == [
        1
    ]


async def test_writers_that_add_all_the_while_lose_nothing_at_ready(dev: Dev, vendor: StubVendor) -> None:
    dev.apply("memory", provider(vendor))
    dev.start()
    dev.until_ready(64)
    add(dev, 50)
    stop, added, failures = threading.Event(), [], []

    def write(lane: int) -> None:
        with httpx.Client(base_url=str(dev.client.base_url), timeout=120) as client:
            number = 0
            while not stop.is_set():
                answer = client.post("/memory/add", json={"text": f"lane {lane} text {number}"})
                (added if answer.status_code == 201 else failures).append(answer.text)
                number += 1

    writers = [threading.Thread(target=write, args=(lane,)) for lane in range(3)]
    for writer in writers:
        writer.start()
    try:
        vendor.latency_ms = 20
        dev.apply("memory", provider(vendor, model="beside"))
        eventually(lambda: (dev.space("beside-64-2") or {}).get("active"), "the switch to the space beside")
        await nothing_active_is_missing(dev)
        dev.apply("memory", provider(vendor, 32, model="beside"))
        eventually(lambda: dev.get(CONSENT)["held"], "the held change")
        dev.post(CONSENT, {"target_dim": 32})
        dev.until_ready(32)
        eventually(lambda: len(added) > 50 or failures, "more than 50 texts added meanwhile")
    finally:
        stop.set()
        for writer in writers:
            writer.join(60)
    assert not failures, failures[:3]
    eventually(lambda: dev.get("/v1/embeddings/status")["active"]["pending"] == 0, "no pending chunk")
    await nothing_is_missing(dev)


async def nothing_active_is_missing(dev: Dev) -> None:
    """While writers go on: a chunk without a vector is at least pending."""
    space = (await dev.sql("select active_space_id as id from memory_registry"))[0]["id"]
    query = MISSING.format(space=space) + (
        f" and not exists (select 1 from memory_embedding_pending p where p.chunk_id = c.id and p.space_id = {space})"
    )
    assert (await dev.sql(query))[0]["n"] == 0


async def test_a_database_that_is_restarted_under_it_is_found_again(
    own_postgres: EmbeddedPostgres, vendor: StubVendor, tmp_path: Any
) -> None:
    running = own_postgres.start()
    dev = Dev(tmp_path, "--database-url", running.dsn)
    try:
        dev.apply("memory", provider(vendor))
        dev.start()
        dev.until_ready(64)
        add(dev, 100)
        vendor.latency_ms = 100
        dev.apply("memory", provider(vendor, model="other"))
        eventually(lambda: (dev.space("other-64-2") or {}).get("vectors", 0) > 20, "a part of the fill")
        own_postgres.crash()
        own_postgres.start()
        vendor.latency_ms = 0
        eventually(lambda: is_active(dev, "other-64-2"), "the switch after the restart")
        add(dev, 5, start=1000)
        found = dev.post("/memory/query", {"query": "memory number 1003"})
        assert found["results"][0]["text"] == "memory number 1003"
    finally:
        dev.close()


def is_active(dev: Dev, embedding_version: str) -> bool:
    answer = dev.client.get("/v1/embeddings/spaces")
    if not answer.is_success:
        return False
    return any(s["active"] and s["embedding_version"] == embedding_version for s in answer.json()["spaces"])
