"""The semantic channel: which plan reads the vectors, and what it finds in small and in big projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fixtures.engine import World
from fixtures.memories import Memories, config
from memory_operator.errors import SpaceVanished
from memory_operator.plan.index import Built, IndexInUse
from memory_operator.plan.space import SpaceConfig
from memory_operator.store.memories import nearest
from memory_operator.store.memories.nearest import EXACT_BELOW_VECTORS, Filters, TookTooLong
from memory_operator.store.spaces import hnsw, spaces, vectors
from memory_operator.store.spaces.spaces import Space
from vendor.vectors import Codebook

DIMENSIONS = 32
BIG, SMALL = 1, 2
MANY = EXACT_BELOW_VECTORS + 2_000


class Spy:
    """A connection that keeps the plans of what is fetched through it."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.plans: list[str] = []

    async def fetch(self, query: str, *values: Any) -> Any:
        plan = await self._conn.fetch(f"explain {query}", *values)
        self.plans.append("\n".join(row[0] for row in plan))
        return await self._conn.fetch(query, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


async def stock(world: World, space: Space, counts: dict[int, int]) -> NDArray[np.float32]:
    """Chunks with structured vectors, so many for each project, interleaved; row i is that of chunk i + 1."""
    async with world.store.transaction() as conn:
        await conn.execute("insert into memory_tenants (name, wrapped_key) values ('t', '')")
        await conn.execute(
            "insert into memory_projects (tenant_id, slug) select 1, 'p' || n from generate_series(1, 9) n"
        )
        projects = [project for project, count in counts.items() for _ in range(count)]
        np.random.default_rng(1).shuffle(projects)
        await conn.execute(
            "insert into memory_entries (canonical_id, version_no, project_id, created_by, type)"
            " select gen_random_uuid(), 1, p, 't', case when n % 500 = 1 then 'rare' else 'plain' end"
            " from unnest($1::int[]) with ordinality as u (p, n) order by n",
            projects,
        )
        await conn.execute(
            "insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,"
            " preprocessing_version) select id, project_id, 0, '', '', '', 1, 1 from memory_entries order by id"
        )
        made = all_vectors(len(projects), space.dimensions)
        kind = "vector" if space.column_type == "vector" else "halfvec"
        await conn.executemany(
            f"insert into {vectors.table(space.id)} select id, project_id, $2::float4[]::{kind} from memory_chunks"
            " where id = $1",
            [(number, [float(n) for n in row]) for number, row in enumerate(made, start=1)],
        )
    return made


def all_vectors(count: int, dimensions: int) -> NDArray[np.float32]:
    book = Codebook("m", dimensions)
    return np.stack([book.vector(f"text {number}") for number in range(count)])


async def find(
    world: World,
    space: Space,
    project: int,
    query: NDArray[np.float32],
    filters: Filters | None = None,
    limit: int = 40,
) -> tuple[list[nearest.Hit], list[str]]:
    async with nearest.bounded(world.store, 10) as conn:
        spy = Spy(conn)
        exact = await nearest.is_small(conn, space.id, project)
        if not exact and filters is not None:
            exact = await nearest.few_matching(conn, project, filters) is not None
        hits = await nearest.nearest(
            spy, space, nearest.VectorQuery(project, query, limit, filters or Filters()), exact=exact
        )
    return hits, spy.plans


async def truth(
    world: World,
    made: NDArray[np.float32],
    project: int,
    query: NDArray[np.float32],
    condition: str = "true",
    top: int = 10,
) -> list[int]:
    rows = await world.fetch(
        "select c.id from memory_chunks c join memory_entries e on e.id = c.entry_id"
        f" where c.project_id = $1 and {condition}",
        project,
    )
    ids = np.array([row["id"] for row in rows])
    return [int(number) for number in ids[np.argsort(-(made[ids - 1] @ query), kind="stable")[:top]]]


def recall(hits: Sequence[nearest.Hit], wanted: Sequence[int]) -> float:
    return len({hit.chunk_id for hit in hits[: len(wanted)]} & set(wanted)) / len(wanted)


async def indexed(world: World, space: Space) -> None:
    await hnsw.build(world.store, hnsw.in_use(space)[0])
    async with world.store.connection() as conn:
        await conn.execute(f"analyze {vectors.table(space.id)}")
        await conn.execute("analyze memory_chunks")


async def test_a_big_project_is_read_by_the_index_and_a_small_one_exactly(memories: Memories) -> None:
    world = memories.world
    space = await memories.space(config(DIMENSIONS))
    made = await stock(world, space, {BIG: MANY, SMALL: 40})
    await indexed(world, space)
    book, found = Codebook("m", DIMENSIONS), []
    for number in range(20):
        query = book.vector(f"query {number}")
        hits, plans = await find(world, space, BIG, query)
        assert all(f"memory_vectors_{space.id}_hnsw_cosine" in plan for plan in plans)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        found.append(recall(hits, await truth(world, made, BIG, query)))
        hits, plans = await find(world, space, SMALL, query)
        assert not any("hnsw" in plan for plan in plans)
        assert [hit.chunk_id for hit in hits[:10]] == await truth(world, made, SMALL, query)
        assert len(hits) == 40
    assert np.mean(found) >= 0.98


async def test_a_project_that_the_index_does_not_show_is_read_exactly_after_all(memories: Memories) -> None:
    world = memories.world
    space = await memories.space(config(DIMENSIONS))
    made = await stock(world, space, {BIG: MANY, SMALL: 40})
    await indexed(world, space)
    query = Codebook("m", DIMENSIONS).vector("query")
    async with nearest.bounded(world.store, 10) as conn:
        await conn.execute("set hnsw.max_scan_tuples = 1")
        await conn.execute("set enable_bitmapscan = off")
        await conn.execute("set enable_sort = off")
        spy = Spy(conn)
        hits = await nearest.nearest(spy, space, nearest.VectorQuery(SMALL, query, 40, Filters()), exact=False)
    assert "hnsw" in spy.plans[0]
    assert "hnsw" not in spy.plans[-1]
    assert [hit.chunk_id for hit in hits[:10]] == await truth(world, made, SMALL, query)


async def test_a_filter_that_few_pass_finds_them_all(memories: Memories) -> None:
    world = memories.world
    space = await memories.space(config(DIMENSIONS))
    made = await stock(world, space, {BIG: MANY})
    await indexed(world, space)
    query = Codebook("m", DIMENSIONS).vector("query")
    hits, _ = await find(world, space, BIG, query, Filters(type="rare"), limit=100)
    assert len(hits) == (MANY + 499) // 500
    assert [hit.chunk_id for hit in hits[:10]] == await truth(world, made, BIG, query, "e.type = 'rare'")
    assert (await find(world, space, BIG, query, Filters(type="none")))[0] == []


@pytest.mark.parametrize("column_type", ["vector", "halfvec"])
@pytest.mark.parametrize("distance", ["cosine", "l2", "dot"])
async def test_every_distance_and_column_type_ranks_the_nearest_first(
    memories: Memories,
    column_type: str,
    distance: str,
) -> None:
    world = memories.world
    settings: SpaceConfig = config(DIMENSIONS, column_type=column_type, distance=distance)
    space = await memories.space(settings)
    made = await stock(world, space, {BIG: 300})
    await indexed(world, space)
    query = made[41] + 0.01 * made[7]
    for exact in (True, False):
        async with nearest.bounded(world.store, 10) as conn:
            hits = await nearest.nearest(conn, space, nearest.VectorQuery(BIG, query, 5, Filters()), exact=exact)
        assert hits[0].chunk_id == 42
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert 0 < hits[0].score <= 1.1


@pytest.mark.parametrize("kind", ["hnsw-halfvec", "hnsw-binary"])
@pytest.mark.parametrize(("column_type", "distance"), [("vector", "cosine"), ("vector", "l2"), ("halfvec", "dot")])
async def test_a_smaller_index_is_read_and_what_it_shows_is_ranked_by_the_vectors_themselves(
    memories: Memories, kind: Built, column_type: str, distance: str
) -> None:
    world = memories.world
    space = await memories.space(config(256, column_type=column_type, distance=distance))
    made = await stock(world, space, {BIG: 2_000})
    async with world.store.connection() as conn:
        await spaces.use_index(conn, space.id, distance, IndexInUse(kind=kind))
        changed = await spaces.get(conn, space.id)
    assert changed is not None
    await indexed(world, changed)
    book = Codebook("m", 256)
    for filters in (Filters(), Filters(type="plain")):
        query = book.vector("query 1")
        async with nearest.bounded(world.store, 10, hnsw.candidates(kind, 10)) as conn:
            await conn.execute("set enable_bitmapscan = off")
            await conn.execute("set enable_sort = off")
            spy = Spy(conn)
            hits = await nearest.nearest(
                spy, changed, nearest.VectorQuery(BIG, query, 10, filters), exact=False, only_active=changed.seen_as
            )
            exact = await nearest.nearest(conn, changed, nearest.VectorQuery(BIG, query, 10, filters), exact=True)
        [plan] = spy.plans
        assert hnsw.in_use(changed)[0].name in plan
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        scores = {hit.chunk_id: hit.score for hit in exact}
        assert len(scores.keys() & {hit.chunk_id for hit in hits}) >= 9
        assert all(hit.score == pytest.approx(scores[hit.chunk_id]) for hit in hits if hit.chunk_id in scores)
    assert len(made) == 2_000


async def test_what_an_index_finds_is_measured_against_all_vectors(memories: Memories) -> None:
    world = memories.world
    space = await memories.space(config(DIMENSIONS))
    await stock(world, space, {BIG: 3_000})
    found = {}
    kinds: tuple[Built, ...] = ("hnsw", "hnsw-halfvec", "hnsw-binary")
    for kind in kinds:
        index = hnsw.Wanted(space.id, space.column_type, space.distance, DIMENSIONS, kind)
        await hnsw.build(world.store, index)
        found[kind] = await hnsw.recall(world.store, index)
    assert found["hnsw"] >= 0.95
    assert found["hnsw-halfvec"] >= 0.95
    assert found["hnsw-binary"] < found["hnsw"]  # 32 signs do not tell 3,000 vectors apart


async def test_many_chunks_of_one_memory_do_not_hide_the_others(memories: Memories) -> None:
    world = memories.world
    space = await memories.space(config(DIMENSIONS))
    made = await stock(world, space, {BIG: 600})
    await world.fetch("update memory_chunks set entry_id = 1, ordinal = id where id <= 500")
    await world.fetch(
        f"update {vectors.table(space.id)} set embedding = $1::float4[]::vector where chunk_id <= 500", made[0].tolist()
    )
    hits, _ = await find(world, space, BIG, made[0], limit=10)
    assert len(hits) == 10
    assert hits[0].key == 1
    assert len({hit.key for hit in hits}) == 10


async def test_a_space_that_was_dropped_is_told_as_such_also_to_a_prepared_statement(memories: Memories) -> None:
    world = memories.world
    space = await memories.space(config(DIMENSIONS))
    made = await stock(world, space, {BIG: 30})
    for _ in range(3):
        await find(world, space, BIG, made[0])
    await world.fetch(f"drop table {vectors.table(space.id)} cascade")
    with pytest.raises(SpaceVanished):
        await find(world, space, BIG, made[0])
    with pytest.raises(SpaceVanished):
        async with nearest.bounded(world.store, 10) as conn:
            await nearest.nearest(conn, space, nearest.VectorQuery(BIG, made[0], 10, Filters()), exact=True)


async def test_the_server_itself_ends_a_search_that_takes_too_long(memories: Memories) -> None:
    world = memories.world
    space = await memories.space(config(DIMENSIONS))
    made = await stock(world, space, {BIG: 30})
    async with world.store.transaction() as other:
        await other.execute(f"lock table {vectors.table(space.id)}")
        with pytest.raises(TookTooLong):
            async with nearest.bounded(world.store, 0.2) as conn:
                await nearest.nearest(conn, space, nearest.VectorQuery(BIG, made[0], 40, Filters()), exact=True)
    # What the search set is gone with it, whichever connection comes next.
    for name, value in (
        ("statement_timeout", "0"),
        ("hnsw.ef_search", "100"),
        ("plan_cache_mode", "force_custom_plan"),
        ("idle_in_transaction_session_timeout", "15s"),
        ("transaction_timeout", "5min"),
    ):
        assert await world.value("select current_setting($1)", name) == value


@pytest.mark.parametrize(("column_type", "dimensions"), [("vector", 2000), ("halfvec", 4000)])
async def test_vectors_of_the_greatest_dimension_fit_into_their_rows(
    memories: Memories,
    column_type: str,
    dimensions: int,
) -> None:
    space = await memories.space(config(dimensions, column_type=column_type))
    stored = await memories.add("long vector")
    assert stored.embedding_status == "embedded"
    toast = await memories.world.value(
        "select pg_relation_size(reltoastrelid) from pg_class where relname = $1 and reltoastrelid <> 0",
        vectors.table(space.id),
    )
    assert not toast
