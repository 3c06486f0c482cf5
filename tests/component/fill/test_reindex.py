"""Memories are cut anew: what stays keeps its vector, what is new gets one, and nothing is ever out of sight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fixtures.api import Api, refused
from fixtures.engine import World
from fixtures.memories import Memories, config
from fixtures.waiting import until
from memory_operator.engine.fill.rechunk import MOST_WAITING, rechunk_one_range
from memory_operator.store.db import locks
from memory_operator.store.jobs import leases
from memory_operator.store.memories import languages

REINDEX = "/v1/reindex"
PRESENCE = 77
LONG = "\n\n".join(f"Paragraph {number}: " + "words and more words. " * 40 for number in range(6))


@asynccontextmanager
async def reindexing(world: World) -> AsyncIterator[None]:
    """The step of a worker that cuts memories anew, again and again."""

    async def repeat() -> None:
        async with locks.presence(world.store, PRESENCE):
            while True:
                if not await rechunk_one_range(world.store, world.keys, "test", PRESENCE):
                    await asyncio.sleep(0.02)

    task = asyncio.create_task(repeat(), name="reindex")
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def ended(api: Api, number: int, state: str = "done") -> dict[str, Any]:
    """A job, once it has ended."""

    async def found() -> dict[str, Any] | None:
        job: dict[str, Any] = (await api.get(f"/v1/jobs/{number}")).json()
        return job if job["state"] == state else None

    job: dict[str, Any] = await until(found, "the job has ended")
    return job


async def age(world: World, *, other_text_in: int = 0) -> None:
    """Let all chunks be those of an older chunker, which cut the first ones of some memories in another way."""
    await world.fetch("update memory_chunks set chunker_version = 0")
    await world.fetch(
        "update memory_chunks set content_hash = sha256(content_hash) where ordinal = 0 and entry_id in"
        " (select id from memory_entries order by id limit $1)",
        other_text_in,
    )


async def test_texts_that_stay_keep_their_vectors_and_others_get_one(
    world: World, api: Api, memories: Memories
) -> None:
    space = await memories.space(config())
    stored = [await memories.add(f"{number} {LONG}") for number in range(3)]
    chunks = (await memories.counted())[0]
    await age(world, other_text_in=2)
    found = [await world.value("select chunk_id from memory_vectors_1 order by chunk_id limit 1")]
    answer = (await api.post(REINDEX)).json()
    assert (answer["memories"], answer["outdated"], answer["spaces"]) == (3, 3, [])
    assert (answer["reindex"]["kind"], answer["reindex"]["embedding_version"]) == ("reindex", None)
    async with reindexing(world):
        job = await ended(api, answer["reindex"]["id"])
        assert (job["done"], job["total"], job["copied"]) == (3, 3, chunks - 2)
        assert await memories.counted() == {0: chunks, space.id: chunks - 2}
        async with world.worker():
            await until(lambda: _full(memories, space.id, chunks), "the space is full")
    assert await world.value("select count(*) from memory_chunks where chunker_version = 0") == 0
    assert found[0] not in [row["id"] for row in await world.fetch("select id from memory_chunks")]
    hit = (await memories.query("Paragraph 3", k=1)).results[0]
    assert hit.id in {each.id for each in stored}
    shown = await memories.remember.show("default", stored[0].id)
    assert (shown.memory.version_no, shown.memory.text) == (1, f"0 {LONG}")


async def _full(memories: Memories, space_id: int, chunks: int) -> bool:
    return (await memories.counted()).get(space_id) == chunks


async def test_memories_that_are_cut_like_this_already_stay_untouched(
    world: World, api: Api, memories: Memories
) -> None:
    await memories.space(config())
    for number in range(3):
        await memories.add(f"memory {number}")
    before = await world.value("select array_agg(id) from memory_chunks")
    async with reindexing(world):
        job = await ended(api, (await api.post(REINDEX)).json()["reindex"]["id"])
    assert (job["done"], job["copied"]) == (3, 0)
    assert await world.value("select array_agg(id) from memory_chunks") == before


async def test_one_project_is_cut_anew_without_the_others(world: World, api: Api, memories: Memories) -> None:
    await memories.space(config())
    for project in ("ours", "theirs"):
        await memories.add(f"something in {project}", project=project)
    await age(world)
    dry = (await api.post(REINDEX, {"project": "ours", "dry_run": True})).json()
    assert (dry["memories"], dry["outdated"], dry["spaces"][0]["estimate"]["to_embed"]) == (1, 1, 1)
    async with reindexing(world):
        job = await ended(api, (await api.post(REINDEX, {"project": "ours"})).json()["reindex"]["id"])
    assert (job["project"], job["done"], job["total"]) == ("ours", 1, 1)
    old = await world.fetch(
        "select slug from memory_chunks c join memory_projects p on p.id = c.project_id where chunker_version = 0"
    )
    assert [row["slug"] for row in old] == ["theirs"]


async def test_what_was_missing_for_another_reason_is_filled_in_every_space(
    world: World, api: Api, memories: Memories
) -> None:
    await memories.space(config())
    await memories.space(config(model="beside", create_enabled=False), "beside", active=False)
    for number in range(3):
        await memories.add(f"memory {number}")
    async with world.worker():
        await ended(api, (await api.post(REINDEX)).json()["reindex"]["id"])
        await until(lambda: _full(memories, 2, 3), "space 2 is full")
    jobs = (await api.get("/v1/jobs")).json()["jobs"]
    assert [(job["kind"], job["embedding_version"]) for job in jobs] == [("reembed", "beside-64-2"), ("reindex", None)]


async def test_with_a_space_nothing_is_cut_and_what_it_lacks_is_filled(
    world: World, api: Api, memories: Memories
) -> None:
    await memories.space(config())
    await memories.space(config(model="beside", create_enabled=False), "beside", active=False)
    await memories.add("a memory")
    await age(world)
    answer = (await api.post(REINDEX, {"embedding_version": "beside-64-2"})).json()
    assert answer["reindex"] is None
    async with world.worker():
        await ended(api, answer["spaces"][0]["job"]["id"])
    assert await world.value("select count(*) from memory_chunks where chunker_version = 0") == 1
    assert await memories.counted() == {0: 1, 1: 1, 2: 1}


async def test_memories_are_amended_and_forgotten_while_others_are_cut_anew(
    world: World, api: Api, memories: Memories
) -> None:
    await memories.space(config())
    stored = [await memories.add(f"{number} {LONG}") for number in range(30)]
    await age(world, other_text_in=30)
    async with reindexing(world), world.worker():
        number = (await api.post(REINDEX)).json()["reindex"]["id"]
        await asyncio.gather(
            *[api.patch(f"/memory/{each.id}", {"tags": ["late"]}) for each in stored[::3]],
            *[api.delete(f"/memory/{each.id}") for each in stored[1::3]],
        )
        job = await ended(api, number)
        assert job["done"] <= job["total"] == 30
        chunks = await world.value("select count(*) from memory_chunks where live")
        await until(lambda: _full(memories, 1, chunks), "space 1 is full")
    assert await world.value("select count(*) from memory_chunks where live and chunker_version = 0") == 0


async def test_a_reindex_is_paused_and_cancelled_like_any_job(world: World, api: Api, memories: Memories) -> None:
    await memories.space(config())
    await memories.add("a memory")
    number = (await api.post(REINDEX)).json()["reindex"]["id"]
    assert (await api.post(REINDEX)).json()["reindex"]["id"] == number
    assert (await api.post(f"/v1/jobs/{number}/pause")).json()["state"] == "paused"
    refused(await api.post(REINDEX), 409, "job_open")
    refused(await api.post(REINDEX, {"dry_run": True}), 409, "job_open")
    assert not await rechunk_one_range(world.store, world.keys, "test", PRESENCE)
    assert (await api.post(f"/v1/jobs/{number}/resume")).json()["state"] == "running"
    assert (await api.post(f"/v1/jobs/{number}/cancel")).json()["state"] == "cancelled"
    assert await world.value("select count(*) from memory_reembed_leases") == 0


async def test_a_memory_that_cannot_be_read_keeps_its_chunks_and_stops_nobody(
    world: World, api: Api, memories: Memories
) -> None:
    await memories.space(config())
    for number in range(3):
        await memories.add(f"memory {number}")
    await age(world)
    await world.fetch("update memory_entries set input = '\\x00' where id = 2")
    async with reindexing(world):
        job = await ended(api, (await api.post(REINDEX)).json()["reindex"]["id"])
    assert job["done"] == 3
    assert await world.value("select count(*) from memory_chunks where chunker_version = 0") == 1


async def test_the_range_of_a_dead_worker_is_walked_by_another(world: World, api: Api, memories: Memories) -> None:
    await memories.space(config())
    for number in range(3):
        await memories.add(f"memory {number}")
    await age(world)
    number = (await api.post(REINDEX)).json()["reindex"]["id"]
    async with world.store.dedicated("memory-worker") as conn:
        dead = await leases.claim(conn, number, "dead", 5, await leases.backend_of(conn))
    assert dead
    async with reindexing(world):
        assert (await ended(api, number))["done"] == 3
    assert await memories.counted() == {0: 3, 1: 3}


async def test_nothing_more_is_cut_while_many_new_chunks_wait(world: World, api: Api, memories: Memories) -> None:
    await memories.space(config(), active=False)
    await world.stored(MOST_WAITING)
    await memories.add("a memory")
    await age(world)
    await world.fetch(
        "insert into memory_embedding_pending (space_id, chunk_id) select 1, id from memory_chunks"
        " on conflict do nothing"
    )
    number = (await api.post(REINDEX)).json()["reindex"]["id"]
    assert not await rechunk_one_range(world.store, world.keys, "test", PRESENCE)
    async with world.worker():
        assert (await ended(api, number))["done"] == 1


COUNTS_WAIT = """
create function wait_where_counted() returns boolean language plpgsql volatile as $$
begin
  if current_query() ~ '(count\\(\\*\\)|exists \\(select 1) from memory_(entries|chunks) '
    or current_query() like '%count(*) as chunks, %' then
    perform pg_advisory_xact_lock_shared(4711);
  end if;
  return true;
end $$;
alter table memory_entries enable row level security, force row level security;
alter table memory_chunks enable row level security, force row level security;
create policy counted on memory_entries using (wait_where_counted());
create policy counted on memory_chunks using (wait_where_counted())
"""
"""Lets statements that count memories or chunks one by one wait for whoever has the lock 4711."""


@pytest.mark.parametrize(
    ("path", "body"),
    [(REINDEX, {}), (REINDEX, {"project": "default"}), ("/v1/reembed", {"project": "default"})],
)
async def test_memories_are_added_while_those_of_a_request_for_a_job_are_counted(
    world: World, api: Api, memories: Memories, path: str, body: dict[str, Any]
) -> None:
    space = await memories.space(config())
    await memories.add("counted")
    await world.fetch(f"delete from memory_vectors_{space.id}")
    await world.fetch(f"update memory_embedding_counters set n = 0 where scope = {space.id}")
    async with world.store.connection() as conn:
        await conn.execute(COUNTS_WAIT)
    async with world.store.dedicated("counting") as conn:
        await conn.execute("select pg_advisory_lock(4711)")
        beginning = asyncio.create_task(api.post(path, body), name="begin a job")
        await until(
            lambda: world.value("select exists (select 1 from pg_locks where objid = 4711 and not granted)"),
            "the memories are being counted",
        )
        for number in range(3):
            stored = await memories.add(f"added meanwhile {number}")
            assert stored.embedding_status == "embedded"
        assert not beginning.done()
    assert (await beginning).status_code in (200, 202)
    assert await world.value("select total from memory_reembed_jobs order by id desc limit 1") == 1


async def test_words_are_indexed_anew_while_their_memories_are_cut_anew(
    world: World, api: Api, memories: Memories
) -> None:
    """Both lock a project before its chunks, also where a cut brings a language that the project did not have."""
    await memories.add("Die Häuser in der Straße sind verkauft, und der Vertrag mit dem Vermieter ist gekündigt.")
    await age(world, other_text_in=1)
    await world.fetch("update memory_projects set languages = '{english}', words_after = 0")
    job = (await api.post(REINDEX)).json()["reindex"]["id"]
    async with AsyncExitStack() as cutting:
        async with world.store.transaction() as conn:
            project = await languages.claim(conn, "default")
            assert project is not None
            await cutting.enter_async_context(reindexing(world))
            await until(world.waits_for_a_lock, "the cut waits for the project")
            chunks = await languages.read(conn, project, 10)
            await languages.rewrite(conn, project.id, [(chunk.id, "german", "haus") for chunk in chunks])
            await languages.advance(conn, project.id, None)
        await ended(api, job)
