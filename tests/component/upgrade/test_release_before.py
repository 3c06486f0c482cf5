"""The release before on this tree's schema: its API, worker and operator work on rows of this tree, and back."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.dev import Dev
from fixtures.engine import MASTER_KEY, World
from fixtures.fills import provider
from fixtures.memories import Memories
from fixtures.postgres import open_quick_folder
from fixtures.release_before import program
from fixtures.waiting import eventually, until
from memory_operator.contract.resource import ProviderRef
from vendor.stub import StubVendor

CONSENT = "/admin/embedding-dimension-change"


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


@pytest.fixture
def old(release_before: Path, database: str) -> Iterator[Dev]:
    """`memory-operator dev` of 0.1.0 on the test's database; nothing is started yet."""
    folder = open_quick_folder()
    command, environment = program(release_before)
    opened = Dev(folder, "--database-url", database, program=command, environment=environment)
    opened.data.mkdir()
    key = opened.data / "master.key"
    key.write_bytes(base64.b64encode(MASTER_KEY))
    key.chmod(0o600)
    yield opened
    opened.close()
    shutil.rmtree(folder)


def texts(dev: Dev, query: str) -> dict[str, str]:
    """Texts that a query finds, with how."""
    results = dev.post("/memory/query", {"query": query})["results"]
    return {result["text"]: result["match_kind"] for result in results}


async def test_it_is_the_release_before_that_runs(old: Dev, release_before: Path, vendor: StubVendor) -> None:
    old.start()
    assert old.get("/openapi.json")["info"]["version"] == "0.1.0"
    assert (release_before / "memory_operator/engine/reconcile.py").is_file()  # and not a module of this tree


async def test_it_adds_queries_and_fills_beside_what_this_tree_wrote(
    world: World, memories: Memories, old: Dev, vendor: StubVendor
) -> None:
    ref = world.cluster.apply("memory", provider(vendor))
    async with world.operator(), world.worker():
        await world.until_phase(ref, "Ready")
        await memories.add("This tree wrote about the gate.")
    await world.stored_texts(["This tree left the pump without a vector."])
    await world.store_pending(1)
    old.apply("memory", provider(vendor))
    old.start()
    added = old.post("/memory/add", {"text": "The release before wrote about the gate."})
    assert added["embedding_status"] == "embedded"
    found = texts(old, "gate")
    assert {"This tree wrote about the gate.", "The release before wrote about the gate."} <= set(found)
    left = "This tree left the pump without a vector."
    eventually(
        lambda: texts(old, "pump").get(left) in ("semantic", "both"), "the release before fills what this tree left"
    )
    active = old.get("/v1/embeddings/status")["active"]
    assert (active["state"], active["coverage"]) == ("ready", 1.0)
    assert old.stop() == 0
    answer = await memories.query("gate")
    assert {result.text for result in answer.results} >= {"The release before wrote about the gate."}


async def test_it_holds_a_change_of_a_space_that_this_tree_filled_and_takes_a_consent(
    world: World, memories: Memories, old: Dev, vendor: StubVendor
) -> None:
    await world.stored(12)
    ref = world.cluster.apply("memory", provider(vendor))
    async with world.operator(), world.worker():
        await world.until_phase(ref, "Ready")
    old.apply("memory", provider(vendor, dimensions=32))
    old.start()
    held: list[dict[str, Any]] = eventually(lambda: old.get(CONSENT)["held"], "the release before holds the change")
    assert (held[0]["from"], held[0]["to"], held[0]["vectors_discarded"]) == (64, 32, 12)
    assert old.post(CONSENT, {"target_dim": 32})["matches_held_change"]
    old.until_ready(32)
    assert old.stop() == 0
    other = world.cluster.apply("memory", provider(vendor, dimensions=32))
    async with world.operator(), world.worker():
        await world.until_phase(other, "Ready")
        await until(
            lambda: world.value("select count(*) = 1 from memory_embedding_spaces"), "this tree keeps the one space"
        )
    assert await world.value("select sum(n) from memory_embedding_counters where scope > 0") == 12


async def test_spaces_that_it_told_apart_by_their_query_prefix_alone_stay_as_they_are(
    world: World, old: Dev, vendor: StubVendor
) -> None:
    def named(name: str, **embedding: Any) -> None:
        spec = provider(vendor, "n" if name == "begun" else "m")
        specs[name] = {**spec, "embedding": {**spec["embedding"], **embedding}}
        old.apply(name, specs[name])

    specs: dict[str, dict[str, Any]] = {}
    await world.stored(12)
    old.start()
    for number, (name, embedding) in enumerate(
        [
            ("first", {}),
            ("second", {"queryPrefix": "second: "}),
            ("gone", {"queryPrefix": "gone: "}),
            ("begun", {"activation": "Manual"}),
            ("begun", {"activation": "Manual", "queryPrefix": "begun: "}),
        ]
    ):
        named(name, **embedding)
        await until(lambda count=number + 1: are_ready(world, count), f"the release before fills space {number + 1}")
    (old.providers / "gone.yaml").unlink()
    await until(
        lambda: world.value("select exists (select 1 from memory_embedding_spaces where state = 'orphaned')"),
        "the release before notices that a Provider is gone",
    )
    assert old.stop() == 0
    left = await spaces_and_owners(world)
    for name in ("first", "second", "begun"):
        world.cluster.apply(name, specs[name])
    async with world.operator() as operator, world.worker():
        await until(lambda: operator.not_ready() is None, "this tree has listed its Providers")
        for name in ("first", "second"):
            await world.until_phase(ProviderRef("default", name), "Ready")
        await until(lambda: ProviderRef("default", "begun") in world.cluster.statuses, "the third has a status")
    assert await spaces_and_owners(world) == left
    kept = await world.fetch("select id from memory_embedding_spaces where space_identity !~ '#old-' order by id")
    assert [row["id"] for row in kept] == [1, 4]
    assert await world.value("select count(*) from memory_reembed_jobs") == 5


async def are_ready(world: World, count: int) -> bool:
    """Whether there are so many spaces, each of them full."""
    ready = await world.value("select count(*) from memory_embedding_spaces where state = 'ready'")
    return int(ready) == count


async def spaces_and_owners(world: World) -> list[tuple[Any, ...]]:
    """Each space with its state, its vectors, who has it, and whether queries read it."""
    rows = await world.fetch(
        "select s.id, s.state, s.config->>'query_prefix',"
        " (select sum(n) from memory_embedding_counters c where c.scope = s.id),"
        " (select p.name from memory_providers p where s.id in (p.applied_space_id, p.beside_space_id)),"
        " s.id in (select p.applied_space_id from memory_providers p),"
        " s.id = (select active_space_id from memory_registry)"
        " from memory_embedding_spaces s order by s.id"
    )
    return [tuple(row) for row in rows]


async def test_it_reads_the_spaces_of_a_provider_that_re_ranks_and_leaves_its_rerank_api_alone(
    world: World, memories: Memories, old: Dev, vendor: StubVendor
) -> None:
    api = {"form": "Jina", "model": "r", "baseURL": vendor.root_url, "timeout": "10s"}
    ref = world.cluster.apply("memory", provider(vendor, rerank=api))
    async with world.operator(), world.worker():
        await world.until_phase(ref, "Ready")
        await memories.add("This tree wrote about the gate.")
        re_ranked = (await memories.query("gate")).diagnostics.rerank
        assert re_ranked is not None
        assert re_ranked.status == "ok"
    old.apply("memory", provider(vendor))
    old.start()
    assert texts(old, "gate") == {"This tree wrote about the gate.": "both"}
    assert old.get("/v1/embeddings/status")["active"]["state"] == "ready"
    assert old.stop() == 0
    again = (await memories.query("gate")).diagnostics.rerank
    assert again is not None
    assert (again.provider, again.model, again.status) == ("default/memory", "r", "ok")
