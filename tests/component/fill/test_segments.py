"""New vectors: found at once where no index is, built into one afterwards, never lost, never found twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.proc import OwnProcess
from fixtures.engine import World
from fixtures.fills import builds_blocked, complete, provider, sent, sound
from fixtures.memories import AGENT, Memories, config
from fixtures.waiting import until
from memory_operator.engine.admin.spaces import Catalog
from memory_operator.engine.fill import indexes
from memory_operator.http.schemas.spaces import SpaceAnswer
from memory_operator.plan.index import FOLD_FROM, FROM_VECTORS, Built, IndexInUse, Segment
from memory_operator.store.memories import nearest
from memory_operator.store.memories.nearest import Filters, Hit
from memory_operator.store.spaces import hnsw, registry, spaces
from memory_operator.store.spaces.spaces import Space
from vendor.stub import StubVendor

DIMENSIONS = 16
QUERIES = 10

PUT = """
with e as (insert into memory_entries (canonical_id, version_no, project_id, created_by, type)
    select gen_random_uuid(), 1, $2, 'test', case when n % 3 = 0 then 'third' else 'plain' end
    from generate_series(1, $1) n returning id, project_id),
  c as (insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,
    preprocessing_version) select id, project_id, 0, '', '', '', 1, 1 from e order by id returning id, project_id)
insert into {table} (chunk_id, project_id, embedding)
select id, project_id, (select array_agg(sin(id * k * k)::float4 order by k) from generate_series(1, {n}) k)::{type}
from c
"""


class Stock:
    """A space whose vectors are put where an add puts them, many at once; and what is found in it."""

    def __init__(self, world: World, space: Space) -> None:
        self.world = world
        self._id = space.id

    async def space(self) -> Space:
        """As it is now."""
        async with self.world.store.connection() as conn:
            found = await spaces.get(conn, self._id)
        assert found is not None
        return found

    async def put(self, count: int, project: int = 1) -> None:
        """Add vectors of a project, each of a memory of its own."""
        space = await self.space()
        statement = PUT.format(table=f"memory_vectors_{self._id}", n=DIMENSIONS, type=space.column_type)
        async with self.world.store.transaction() as conn:
            await conn.execute(statement, count, project)
            await registry.count(conn, {registry.CHUNKS: count, self._id: count})

    async def settled(self) -> tuple[Segment, ...]:
        """The segments, once a worker has nothing to do for the index; as if a long time passed until the next."""
        await indexes.settle(self.world.store, self._id)
        space = await self.space()
        found = space.index.segments
        assert await definitions(self.world, self._id) == sorted(bounds(each) for each in found)
        long_ago = [each.model_copy(update={"began": 0.0, "seconds": 1.0}) for each in found]
        async with self.world.store.connection() as conn:
            index = space.index.model_copy(update={"segments": tuple(long_ago)})
            await spaces.use_index(conn, self._id, space.distance, index)
        return index.segments

    async def grown(self) -> None:
        """One segment of 9,900."""
        await self.put(4_000)
        await self.settled()
        await self.put(4_900)
        [only] = await self.settled()
        assert only.rows == 9_900

    async def find(
        self,
        query: NDArray[np.float32],
        *,
        exact: bool = False,
        project: int = 1,
        filters: Filters | None = None,
        one_by_one: Collection[Segment] = (),
        plans: list[str] | None = None,
    ) -> list[Hit]:
        """The ten nearest, by the index unless `exact`."""
        space = await self.space()
        wanted = nearest.VectorQuery(project, query, 10, filters or Filters())
        async with nearest.bounded(self.world.store, 10, hnsw.candidates(space.index.kind, 10)) as conn:
            through = conn
            if plans is not None:  # vectors are so short here that to sort them is cheaper than any index
                await conn.execute("set enable_sort = off; set jit = off")
                through = Spy(conn, plans)
            return await nearest.nearest(through, space, wanted, exact=exact, one_by_one=one_by_one)

    async def recall(self, **options: Any) -> float:
        """Share of the ten nearest that are found; none twice."""
        shares = []
        for number in range(QUERIES):
            looked_for = query(number)
            found = [hit.chunk_id for hit in await self.find(looked_for, **options)]
            assert len(found) == len(set(found)) == 10
            wanted = [hit.chunk_id for hit in await self.find(looked_for, **options | {"exact": True})]
            shares.append(len({*found} & {*wanted}) / 10)
        return float(np.mean(shares))


class Spy:
    """A connection that keeps the plans of what is fetched through it."""

    def __init__(self, conn: Any, plans: list[str]) -> None:
        self._conn = conn
        self._plans = plans

    async def fetch(self, statement: str, *values: Any) -> Any:
        plan = await self._conn.fetch(f"explain (analyze, timing off) {statement}", *values)
        self._plans.append("\n".join(row[0] for row in plan))
        return await self._conn.fetch(statement, *values)


def query(number: int) -> NDArray[np.float32]:
    """Not far from the vectors that are stored."""
    return np.sin((number * 97 + 0.3) * np.arange(1, DIMENSIONS + 1) ** 2).astype(np.float32)


def bounds(segment: Segment) -> str:
    """What the definition of its index ends with."""
    return f"((chunk_id >= {segment.first}) AND (chunk_id < {segment.end}))"


async def definitions(world: World, space_id: int) -> list[str]:
    """What each vector index is limited to; empty for one of all vectors."""
    rows = await world.fetch(
        "select pg_get_indexdef(indexrelid) as text from pg_index where indrelid = $1::regclass and indisvalid",
        f"memory_vectors_{space_id}",
    )
    return sorted(row["text"].partition(" WHERE ")[2] for row in rows if "USING hnsw" in (row["text"] or ""))


async def unindexed(world: World) -> int:
    """What the status says of it."""
    [view] = await Catalog(world.store).spaces()
    return SpaceAnswer.of(view).unindexed


@pytest.fixture
async def stock(memories: Memories) -> Stock:
    """A space of 1,000 vectors, in one segment."""
    return await stocked(memories)


async def stocked(memories: Memories, **settings: Any) -> Stock:
    space = await memories.space(config(DIMENSIONS, **settings))
    await memories.world.fetch("insert into memory_tenants (name, wrapped_key) values ('t', '')")
    await memories.world.fetch(
        "insert into memory_projects (tenant_id, slug) select 1, 'p' || n from generate_series(1, 3) n"
    )
    stock = Stock(memories.world, space)
    await stock.put(FROM_VECTORS)
    [only] = await stock.settled()
    assert (only.first, only.end, only.rows) == (0, FROM_VECTORS + 1, FROM_VECTORS)
    return stock


async def test_what_is_new_is_found_before_it_is_indexed_and_after_and_never_twice(stock: Stock) -> None:
    world = stock.world
    await stock.put(FOLD_FROM - 1)
    assert await unindexed(world) == FOLD_FROM - 1
    [only] = await stock.settled()
    assert only.end == FROM_VECTORS + 1  # too few for an index of their own
    plans: list[str] = []
    assert await stock.recall(plans=plans) >= 0.95
    await stock.put(1)
    [only] = await stock.settled()
    assert (only.first, only.end, only.rows) == (0, FROM_VECTORS + FOLD_FROM + 1, FROM_VECTORS + FOLD_FROM)
    assert await unindexed(world) == 0
    assert await stock.recall() >= 0.95


async def test_segments_are_built_behind_each_other_and_taken_in_until_few_stand(stock: Stock) -> None:
    counts = []
    for _ in range(6):
        await stock.put(FOLD_FROM)
        found = await stock.settled()
        assert found[0].first == 0
        assert all(older.end == newer.first for older, newer in pairwise(found))
        assert sum(each.rows for each in found) == await stock.world.value("select count(*) from memory_chunks")
        assert await stock.recall() >= 0.95
        counts.append(len(found))
    assert max(counts) <= 3
    assert 2 in counts
    assert await unindexed(stock.world) == 0


async def test_each_segment_is_asked_by_its_index_and_the_rest_is_read_by_its_ids(stock: Stock) -> None:
    await stock.grown()
    await stock.put(4_000)
    await stock.settled()
    await stock.put(1_500)
    await stock.world.fetch("analyze memory_vectors_1")
    space = await stock.space()
    assert len(space.index.segments) == 2
    plans: list[str] = []
    await stock.find(query(1), plans=plans)
    [plan] = plans
    for index in hnsw.in_use(space):
        assert index.name in plan
    assert "Seq Scan" not in plan
    assert f"chunk_id >= {space.index.end}" in plan
    filtered: list[str] = []
    assert await stock.recall(filters=Filters(type="third"), plans=filtered) >= 0.95
    assert not any("Seq Scan on memory_vectors" in plan for plan in filtered)


@pytest.mark.parametrize(
    ("kind", "column_type"), [("hnsw-halfvec", "vector"), ("hnsw-binary", "vector"), ("hnsw", "halfvec")]
)
async def test_a_smaller_index_is_made_of_segments_too(memories: Memories, kind: Built, column_type: str) -> None:
    stock = await stocked(memories, index={"kind": kind}, column_type=column_type)
    await stock.grown()
    await stock.put(FOLD_FROM)
    assert len(await stock.settled()) == 2
    await stock.put(500)
    assert (await stock.space()).index.kind == kind
    assert await stock.recall() >= (0.5 if kind == "hnsw-binary" else 0.95)  # signs of 16 numbers tell little


async def test_a_vector_that_is_committed_late_enters_the_segment_of_its_id(stock: Stock) -> None:
    world = stock.world
    await stock.put(1)
    late = await world.value("select max(chunk_id) from memory_vectors_1")
    await world.fetch("create table memory_kept as select * from memory_vectors_1 where chunk_id = $1", late)
    await world.fetch("delete from memory_vectors_1 where chunk_id = $1", late)
    await stock.put(FOLD_FROM)
    [only] = await stock.settled()
    assert only.first <= late < only.end
    await world.fetch("insert into memory_vectors_1 select * from memory_kept")
    looked_for = np.sin(late * np.arange(1, DIMENSIONS + 1) ** 2).astype(np.float32)
    assert (await stock.find(looked_for))[0].chunk_id == late


async def test_a_project_that_has_nothing_in_a_segment_does_not_read_its_index_to_the_end(stock: Stock) -> None:
    await stock.grown()
    await stock.put(2_500, project=2)
    first, second = await stock.settled()
    await stock.world.fetch("analyze memory_vectors_1")
    space = await stock.space()
    async with stock.world.store.connection() as conn:
        assert await nearest.with_few(conn, space, 1) == {second}
        assert await nearest.with_few(conn, space, 2) == {first}
    plans: list[str] = []
    await stock.find(query(1), one_by_one={second}, plans=plans)
    names = [index.name for index in hnsw.in_use(space)]
    assert [name in plans[0] for name in names] == [True, False]
    assert await stock.recall(one_by_one={second}) >= 0.95


async def test_an_index_of_all_vectors_is_replaced_by_segments_once_it_is_worth_it(memories: Memories) -> None:
    space = await memories.space(config(DIMENSIONS))
    world = memories.world
    await world.fetch("insert into memory_tenants (name, wrapped_key) values ('t', '')")
    await world.fetch("insert into memory_projects (tenant_id, slug) values (1, 'p')")
    stock = Stock(world, space)
    await world.fetch("drop index memory_vectors_1_project_chunk")
    await world.fetch("create index memory_vectors_1_project on memory_vectors_1 (project_id)")
    await stock.put(FROM_VECTORS)
    await hnsw.build(world.store, hnsw.in_use(space)[0])  # as release 0.1 did
    await indexes.settle(world.store, space.id)
    assert (await stock.space()).index.segments == ()
    assert await definitions(world, 1) == [""]
    assert await unindexed(world) == 0
    await stock.put(FOLD_FROM)
    assert len(await stock.settled()) == 1
    by_project = "select relname from pg_class where relname ~ '^memory_vectors_1_project' order by 1"
    assert [row["relname"] for row in await world.fetch(by_project)] == ["memory_vectors_1_project_chunk"]
    assert await stock.recall() >= 0.95


async def test_a_list_of_segments_that_changed_unheard_costs_a_retry_and_no_second_call(memories: Memories) -> None:
    with StubVendor(dimensions=64) as vendor:
        settings = config(64, type="openai_compatible", base_url=vendor.base_url)
        space = await memories.space(settings)
        for number in range(3):
            await memories.add(f"memory number {number}")
        await memories.query("memory number 1")
        vendor.forget()
        for end in (1, 2, 3):
            index = IndexInUse(wanted=space.config.index, segments=(Segment(first=0, end=end),))
            async with memories.world.store.transaction() as conn:
                await spaces.use_index(conn, space.id, space.distance, index)
            answer = await memories.query(f"memory number {end}")
            assert answer.diagnostics.semantic_status == "ok"
            assert answer.diagnostics.channels["semantic"].status == "ok"
            assert len({hit.id for hit in answer.results}) == len(answer.results) == 3
        assert len(sent(vendor)) == 3


@pytest.fixture
def vendor() -> Iterator[StubVendor]:
    with StubVendor(dimensions=64) as stub:
        yield stub


async def builds(world: World) -> int:
    """Builds that the server is at."""
    active = "application_name = 'memory-index' and state = 'active' and datname = current_database()"
    return int(await world.value(f"select count(*) from pg_stat_activity where {active} and query ~ 'create index'"))


async def has_folded(world: World) -> bool:
    """Whether everything is in the index, in however many segments, and none is left that queries do not use."""
    if await unindexed(world):
        return False
    left_over = "select count(*) from pg_index where indrelid = 'memory_vectors_1'::regclass and not indisvalid"
    async with world.store.connection() as conn:
        [space] = await spaces.all_spaces(conn)
    there = await definitions(world, 1)
    return await world.value(left_over) == 0 and there == sorted(bounds(each) for each in space.index.segments)


async def test_a_worker_folds_what_came_and_another_does_where_it_was_killed_in_the_middle(
    world: World, memories: Memories, vendor: StubVendor, tmp_path: Path
) -> None:
    await world.stored(FROM_VECTORS)
    async with world.operator():
        world.cluster.apply("memory", provider(vendor, batchSize=500))
        async with world.worker():
            await until(lambda: complete(world), "the space is ready")
        await world.stored(FOLD_FROM)
        await world.store_pending(1)
        async with builds_blocked(world):
            with OwnProcess(tmp_path, world.dsn, "worker") as killed:
                await until(lambda: builds(world), "a build has begun")
                killed.kill()
            await until(lambda: _none(world), "the server has ended the build")
            added = await memories.add("memory about the gate of the mill")
            assert (await memories.query("memory about the gate of the mill", k=1)).results[0].id == added.id
        assert await unindexed(world) == FOLD_FROM + 1
        gone = await memories.add("memory that is purged again")
        await memories.remember.purge(memories.tenant, gone.id, AGENT)
        async with world.worker():
            await until(lambda: has_folded(world), "all are in the index")
        answer = await memories.query("memory about the gate of the mill", k=5)
    assert answer.results[0].id == added.id
    await sound(world)
    await memories.counted()


async def _none(world: World) -> bool:
    return await builds(world) == 0


def _ids(hits: Sequence[Hit]) -> list[int]:
    return [hit.chunk_id for hit in hits]


async def test_what_is_erased_is_found_no_more_whichever_part_it_was_in(stock: Stock) -> None:
    world = stock.world
    await stock.grown()
    await stock.put(FOLD_FROM)
    first, second = await stock.settled()
    await stock.put(100)
    for erased in (first.end - 5, second.end - 5, second.end + 5):
        looked_for = np.sin(erased * np.arange(1, DIMENSIONS + 1) ** 2).astype(np.float32)
        assert _ids(await stock.find(looked_for))[0] == erased
        await world.fetch("delete from memory_chunks where id = $1", erased)
        found = _ids(await stock.find(looked_for))
        assert erased not in found
        assert len(found) == 10
