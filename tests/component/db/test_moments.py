"""Times that PostgreSQL stores and Python's datetime cannot say: each is read, and no row stops the others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fixtures.api import Api
from fixtures.engine import World
from fixtures.waiting import until

INSERT = (
    "insert into memory_embedding_dim_change_consent (target_dim, created_at, expires_at, withdrawn_at)"
    " values (128, $1::text::timestamptz, $1::text::timestamptz, $2::text::timestamptz)"
)


@pytest.mark.parametrize(
    "moment", ["infinity", "-infinity", "20000-01-01", "294276-12-31", "0044-03-15 BC", "4714-11-24 BC"]
)
async def test_a_marker_of_any_time_is_listed_and_stops_no_reconcile(world: World, api: Api, moment: str) -> None:
    await world.fetch(INSERT, moment, None)
    await world.fetch(INSERT, "2026-01-01", moment)
    answer = await api.get("/admin/embedding-dimension-change")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["markers"]) == 2
    ref = world.cluster.apply("memory", {"type": "mock", "embedding": {"dimensions": 64}})
    async with world.operator(), world.worker():
        await until(lambda: world.phase(ref) == "Ready", "the Provider is reconciled")


async def test_a_time_is_stored_and_read_to_the_microsecond(world: World) -> None:
    moment = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert await world.value("select $1::timestamptz", moment) == moment
    assert await world.value("select $1::timestamptz = '2026-01-31T23:59:59.999999Z'", moment)
