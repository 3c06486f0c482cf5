"""A change that meets the server's own housekeeping."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest

from fixtures.engine import World, open_world
from fixtures.postgres import FAST, open_quick_folder
from fixtures.waiting import until
from memory_operator.dev.postgres.server import EmbeddedPostgres
from memory_operator.store.db.migrate import migrate

SLOWLY = (
    "alter table memory_chunks set (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,"
    " autovacuum_vacuum_insert_threshold = 100, autovacuum_vacuum_insert_scale_factor = 0)"
)


@pytest.fixture
async def vacuumed() -> AsyncIterator[World]:
    """A world on a server that vacuums often, and takes minutes for it."""
    folder = open_quick_folder()
    postgres = EmbeddedPostgres(folder / "server", settings={**FAST, "autovacuum_naptime": "1s"})
    try:
        running = postgres.start()
        await migrate(running.dsn)
        async with open_world(running.dsn) as opened:
            yield opened
    finally:
        postgres.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_change_with_consent_does_not_wait_for_an_autovacuum_to_end(vacuumed: World) -> None:
    world = vacuumed
    await world.fetch(SLOWLY)
    await world.stored(20)
    async with world.operator(), world.worker():
        ref = world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 32}})
        await world.until_phase(ref, "Ready")
        await world.stored(2_000)
        await until(lambda: is_vacuumed(world, "memory_chunks"), "an autovacuum is under way")
        world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}})
        await world.until_phase(ref, "Held")
        assert await is_vacuumed(world, "memory_chunks")
        await world.fetch("insert into memory_embedding_dim_change_consent (target_dim) values (64)")
        await until(lambda: world.cluster.statuses[ref].embedding.applied_dimensions == 64, "dimension 64 is applied")


async def is_vacuumed(world: World, table: str) -> bool:
    """Whether a session that is not ours holds the lock that a vacuum takes."""
    return bool(
        await world.value(
            "select exists (select 1 from pg_locks where relation = to_regclass($1)"
            " and mode = 'ShareUpdateExclusiveLock' and granted)",
            table,
        )
    )
