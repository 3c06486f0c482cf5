"""Many Providers: what is asked of vendors, of the API server and of the store, counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fixtures.engine import Cluster, World, open_world
from fixtures.waiting import until
from memory_operator.contract.resource import ProviderObject, ProviderRef
from memory_operator.contract.status import ProviderStatus
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.gate import probes
from memory_operator.engine.ports.sources import Listing, ProviderEvent
from memory_operator.store.db.activity import Actor
from memory_operator.store.db.pool import Conn, Store
from vendor.script import Fault
from vendor.stub import StubVendor

BY = Actor("tester", "test")
PROVIDERS = 30


class CountingCluster(Cluster):
    """An API server that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()

    async def get(self, ref: ProviderRef) -> ProviderObject | None:
        self.requests["get"] += 1
        return await super().get(ref)

    async def list(self) -> Listing:
        self.requests["list"] += 1
        return await super().list()

    async def publish(self, ref: ProviderRef, uid: str, status: ProviderStatus, events: Any) -> None:
        self.requests["publish"] += 1
        await super().publish(ref, uid, status, events)


class CountingStore:
    """A store that notes each statement and the values it is run with."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.statements: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Conn]:
        async with self._store.connection() as conn:
            with conn.query_logger(self._note):
                yield conn

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Conn]:
        """Not noted: what is read in one is read under its locks."""
        async with self._store.transaction(**options) as conn:
            yield conn

    def _note(self, record: Any) -> None:
        self.statements.append((" ".join(record.query.split()), repr(record.args)))


@pytest.fixture
async def counted(database: str) -> AsyncIterator[World]:
    async with open_world(database, CountingCluster()) as world:
        yield world


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


def requests(world: World) -> Counter[str]:
    assert isinstance(world.cluster, CountingCluster)
    return world.cluster.requests


def mock(model: str, dimensions: int = 64) -> dict[str, Any]:
    return {"type": "mock", "model": model, "embedding": {"dimensions": dimensions}}


def spec(vendor: StubVendor, model: str = "m", dimensions: int = 64) -> dict[str, Any]:
    return {
        "type": "openai_compatible",
        "model": model,
        "baseURL": vendor.base_url,
        "embedding": {"dimensions": dimensions},
    }


async def test_an_edit_passes_from_its_event_to_its_status_reading_nothing_twice(counted: World) -> None:
    await counted.stored(5)
    store = CountingStore(counted.store)
    counted.store = store  # type: ignore[assignment]
    async with counted.operator(), counted.worker():
        ref = counted.cluster.apply("memory", mock("a"))
        await counted.until_phase(ref, "Ready")
        await until(lambda: quiet(counted), "the operator has nothing left to do")
    async with counted.operator() as operator:
        await until(lambda: operator.not_ready() is None, "the operator has listed its Providers")
        await until(lambda: quiet(counted), "the operator has nothing left to do")
        requests(counted).clear()
        store.statements.clear()
        counted.cluster.apply("memory", mock("a", 32))
        await counted.until_phase(ref, "Held")
        noted = Counter(each for each in store.statements if each[0].startswith("select"))
    assert requests(counted)["get"] == 1
    assert [statement for statement, times in noted.items() if times > 1] == []
    assert len(noted) > 5


async def quiet(world: World) -> bool:
    """Whether the API server is asked nothing for a while."""
    before = requests(world).copy()
    await asyncio.sleep(1.0)
    return requests(world) == before


async def test_at_rest_nothing_is_asked_for_or_published_but_the_list(counted: World) -> None:
    await counted.stored(5)
    counted.settings = type(counted.settings)(consent_poll_seconds=0.2, listing_seconds=0.3)
    async with counted.operator() as operator, counted.worker():
        refs = [counted.cluster.apply(f"memory-{number}", mock(f"m{number}")) for number in range(20)]
        for ref in refs:
            await counted.until_phase(ref, "Ready")

        async def only_lists() -> bool:
            before = requests(counted).copy()
            await asyncio.sleep(1.0)
            operator.listed_again()
            return set(requests(counted) - before) == {"list"}

        await until(only_lists, "only lists are asked for")


async def test_a_thousand_listed_providers_of_which_ten_are_ours_cost_no_look_at_the_others(counted: World) -> None:
    for number in range(990):
        counted.cluster.apply(f"llm-{number}", {"role": "llm", "type": "openai", "model": "gpt"})
    refs = [counted.cluster.apply(f"memory-{number}", mock(f"m{number}")) for number in range(10)]
    async with counted.operator():
        await until(lambda: all(ref in counted.cluster.statuses for ref in refs), "all ten have a status")
        await until(lambda: quiet(counted), "the operator has nothing left to do")
        assert requests(counted)["get"] <= 3 * len(refs)
        assert await counted.value("select count(*) from memory_providers") == 10


async def test_one_pass_of_the_status_refresh_reads_once_however_many_providers_there_are(counted: World) -> None:
    await counted.stored(5)
    store = CountingStore(counted.store)
    counted.store = store  # type: ignore[assignment]
    async with counted.operator() as operator:
        refs = [counted.cluster.apply(f"memory-{number}", mock(f"m{number}")) for number in range(PROVIDERS)]
        await until(lambda: all(ref in counted.cluster.statuses for ref in refs), "all have a status")
        await until(lambda: quiet(counted), "the operator has nothing left to do")
        store.statements.clear()
        requests(counted).clear()
        await operator._report.refresh()
    assert len([each for each in store.statements if each[0].startswith("select")]) < PROVIDERS / 2
    assert requests(counted)["publish"] == 0


async def test_a_consented_change_waits_behind_no_dead_vendor(world: World, vendor: StubVendor) -> None:
    await world.stored(10)
    with StubVendor(dimensions=64) as dead:
        async with world.operator(), world.worker():
            ref = world.cluster.apply("memory", spec(vendor))
            await world.until_phase(ref, "Ready")
            world.cluster.apply("memory", spec(vendor, dimensions=32))
            await world.until_phase(ref, "Held")
            dead.fault = Fault(hold=True)
            for number in range(50):
                world.cluster.apply(f"dead-{number}", spec(dead, f"m{number}"))
            await until(lambda: dead.in_flight >= probes.AT_ONCE, "as many vendors are waited for as may be at a time")
            await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
            await until(
                lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 32, "dimension 32 is applied"
            )
            assert dead.in_flight >= probes.AT_ONCE, "it was applied while the dead vendors were still waited for"
            edited = world.cluster.apply("memory", spec(vendor, dimensions=16))
            await until(lambda: world.phase(edited) == "Held", "an edit is held meanwhile")
            assert dead.count <= 2 * probes.AT_ONCE
            dead.fault = None


async def test_a_wrong_dimension_is_asked_for_once_until_something_is_edited(world: World, vendor: StubVendor) -> None:
    vendor.fault = Fault(ignore_dimensions=True)
    async with world.operator() as operator:
        ref = world.cluster.apply("memory", spec(vendor, dimensions=96))
        await until(lambda: "64 dimensions, not 96" in settled(world, ref), "the wrong dimension is told")
        for _ in range(5):
            operator.enqueue(ref)
            await asyncio.sleep(0.2)
        assert vendor.count == 1
        world.cluster.apply("memory", spec(vendor, dimensions=80))
        await until(lambda: "64 dimensions, not 80" in settled(world, ref), "the edit is looked at")
        assert vendor.count == 2


def settled(world: World, ref: ProviderRef) -> str:
    found = world.cluster.condition(ref, "DimensionSettled")
    return found.message if found else ""


async def test_a_vendor_that_refuses_is_not_asked_again_before_something_is_edited(
    world: World, vendor: StubVendor
) -> None:
    vendor.fault = Fault(status=404)
    async with world.operator() as operator:
        ref = world.cluster.apply("memory", spec(vendor))
        await until(lambda: world.phase(ref) == "Error", "the refusal is told")
        for _ in range(5):
            operator.enqueue(ref)
            await asyncio.sleep(0.2)
        assert vendor.count == 1
        vendor.fault = None
        world.cluster.apply("memory", spec(vendor, dimensions=32))
        await until(lambda: world.value("select count(*) = 1 from memory_embedding_spaces"), "a space is made")


async def test_each_switch_and_each_new_fault_of_a_spec_is_one_event(world: World) -> None:
    def told(reason: str) -> list[ProviderEvent]:
        return [event for _, event in world.cluster.events if event.reason == reason]

    await world.stored(5)
    async with world.operator() as operator, world.worker():
        ref = world.cluster.apply("memory", mock("a"))
        await world.until_phase(ref, "Ready")
        world.cluster.apply("memory", mock("b"))
        await until(lambda: told("SpaceSwitched"), "the switch is told")
        await world.until_phase(ref, "Ready")
        for field in ("modle", "modle", "baseUrl"):
            world.cluster.apply("memory", {**mock("b"), field: "x"})
            await until(lambda field=field: any(field in e.message for e in told("InvalidSpec")), f"{field} is told")
            operator.enqueue(ref)
    assert [event.message for event in told("SpaceSwitched")] == ["b-64-2 has taken the place of a-64-1; dimension 64"]
    assert len(told("InvalidSpec")) == 2


async def test_a_switch_that_a_request_makes_is_told_as_one_event_of_each_provider_it_concerns(world: World) -> None:
    def told(*reasons: str) -> list[tuple[str, str, str]]:
        return [
            (ref.name, event.reason, event.message) for ref, event in world.cluster.events if event.reason in reasons
        ]

    await world.stored(5)
    async with world.operator(), world.worker():
        first = world.cluster.apply("first", {**mock("a"), "embedding": {"dimensions": 64, "activation": "Manual"}})
        await world.until_phase(first, "Ready")
        await world.until_phase(world.cluster.apply("second", mock("b")), "Ready")
        world.cluster.events.clear()
        await Catalog(world.store).activate(None, "default/second", BY)
        await until(lambda: len(told("Active", "NotActive")) == 2, "both Providers are told")
        assert sorted(told("Active", "NotActive")) == [
            ("first", "NotActive", "another space is active; `memory embeddings activate` changes that"),
            ("second", "Active", "queries read b-64-2"),
        ]
        world.cluster.apply("first", {**mock("c"), "embedding": {"dimensions": 64, "activation": "Manual"}})
        await until(
            lambda: world.value("select state = 'ready' from memory_embedding_spaces where id = 3"), "space 3 is full"
        )
        assert told("SpaceSwitched") == []
        await Catalog(world.store).activate("c-64-3", None, BY)
        await until(lambda: told("SpaceSwitched"), "the switch is told")
    assert told("SpaceSwitched") == [("first", "SpaceSwitched", "c-64-3 has taken the place of a-64-1; dimension 64")]


async def test_the_log_line_of_a_changed_dimension_names_its_provider(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="memory_operator")
    await world.stored(5)
    async with world.operator(), world.worker():
        for name in ("one", "two"):
            await world.until_phase(world.cluster.apply(name, mock(name)), "Ready")
        two = world.cluster.apply("two", mock("two", 32))
        await world.until_phase(two, "Held")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (32)")
        await until(lambda: world.cluster.statuses[two].embedding.applied_dimensions == 32, "dimension 32 is applied")
    lines = [record for record in caplog.records if "dimension changed" in record.getMessage()]
    assert [record.getMessage() for record in lines] == [
        "default/two: dimension changed from 64 to 32, 5 vectors discarded"
    ]
    assert [vars(record)["provider"] for record in lines] == ["default/two"]
