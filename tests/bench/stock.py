"""Databases full of memories that have no vector yet: stored once, copied for each scenario."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg

from bench.texts import Words, Writer
from fixtures.engine import MASTER_KEY
from memory_operator.dev.postgres.server import RunningPostgres
from memory_operator.memory.encryption import MasterKey, Place
from memory_operator.memory.search_terms import indexed
from memory_operator.store.db.migrate import migrate
from memory_operator.store.db.pool import Store, open_store
from memory_operator.store.memories import fulltext
from memory_operator.store.memories.tenants import KeyRing, Tenant, check_or_store_key
from memory_operator.store.spaces import registry

TEXTS = "bench_texts"
"""The same texts unencrypted, for the raw loop and for peers: id, text, and the memory's type."""

TYPES = {"fact": 0.2, "note": 0.8}
"""Types of memories, and how many have each. A fifth is where a filter is dearest."""

PROJECT = "bench"
TENANT = "default"
_PART = 25_000
_INDEX_SECONDS = 3_600


class Stock:
    """Databases of one server; `of(count)` gives a fresh one with so many chunks."""

    def __init__(self, server: RunningPostgres, words: Words | None = None) -> None:
        """`words` as in `Writer`."""
        self._server = server
        self._words = words
        self._templates: set[str] = set()
        self._number = 0

    @asynccontextmanager
    async def of(self, count: int, marked: str | None = None) -> AsyncIterator[str]:
        """URL of a database of its own, dropped at the end. With `marked` one chunk in the middle has that in it."""
        template = f"stock_{count}{'_marked' if marked else ''}"
        if template not in self._templates:
            await self.make(template, count, marked)
            self._templates.add(template)
        self._number += 1
        name = f"fill_{self._number}"
        await self._run(f"create database {name} template {template} owner memory strategy file_copy")
        try:
            yield self._url(self._server.dsn, name)
        finally:
            await self._run(f"drop database {name} with (force)")

    async def end_workers(self, dsn: str) -> None:
        """End what a killed worker still runs in a database: an index build goes on without its client."""
        await self._run(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            f" where datname = '{urlsplit(dsn).path[1:]}' and application_name ~ '^memory-(worker|index)'"
        )

    async def settle(self) -> None:
        """Write out what is dirty, so that no scenario pays for the one before."""
        await self._run("checkpoint")

    async def make(self, name: str, count: int, marked: str | None = None) -> None:
        """A new database of this name, which stays."""
        await self._run(f"create database {name} owner memory")
        await self._run("create extension vector", database=name)
        url = self._url(self._server.dsn, name)
        await migrate(url)
        async with await open_store(url, application="memory-bench") as store:
            await store_memories(store, count, marked, self._words)
        await self._run("vacuum analyze", database=name)

    async def _run(self, statement: str, database: str = "postgres") -> None:
        conn = await asyncpg.connect(self._url(self._server.administrator_dsn, database))
        try:
            await conn.execute(statement)
        finally:
            await conn.close()

    def _url(self, dsn: str, name: str) -> str:
        return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def store_memories(store: Store, count: int, marked: str | None = None, words: Words | None = None) -> None:
    """Memories of one chunk each, sealed as an add seals them."""
    async with store.connection() as conn:
        await check_or_store_key(conn, MasterKey(MASTER_KEY))
    keys = KeyRing(MasterKey(MASTER_KEY))
    owner = await keys.tenant(store, TENANT)
    project = await keys.project(store, owner, PROJECT)
    chance = random.Random(1)
    writer = Writer(chance, words)
    async with store.connection() as conn:
        index = await conn.fetchval("select indexdef from pg_indexes where indexname = 'memory_chunks_tsv'")
        await conn.execute("drop index memory_chunks_tsv")  # row by row it takes longer than all the rest
        await conn.execute(f"create table {TEXTS} (id bigint primary key, text text not null, type text not null)")
        for start in range(0, count, _PART):
            texts = writer.texts(min(_PART, count - start))
            if marked and start <= count // 2 < start + _PART:
                texts[count // 2 - start] += marked
            await _store_part(conn, owner, project, start, texts, chance)
        await conn.execute(index, timeout=_INDEX_SECONDS)
        await registry.count(conn, {registry.CHUNKS: count})


async def _store_part(
    conn: Any, owner: Tenant, project: int, start: int, texts: list[str], chance: random.Random
) -> None:
    ids = [UUID(int=chance.getrandbits(128), version=4) for _ in texts]
    types = random.Random(start).choices(list(TYPES), list(TYPES.values()), k=len(texts))
    async with conn.transaction():
        first = 1 + await conn.fetchval("select coalesce(max(id), 0) from memory_entries")
        await conn.copy_records_to_table(
            "memory_entries",
            columns=["canonical_id", "version_no", "project_id", "created_by", "type"],
            records=[(id_, 1, project, "bench", kind) for id_, kind in zip(ids, types, strict=True)],
        )
        await conn.copy_records_to_table(
            TEXTS,
            records=[
                (start + number, text, kind) for number, (text, kind) in enumerate(zip(texts, types, strict=True), 1)
            ],
        )
        await conn.execute("create temp table part (entry_id bigint, sealed bytea, hash bytea, plain text)")
        await conn.copy_records_to_table(
            "part",
            records=[
                (
                    first + number,
                    owner.key.seal(text, Place(id_, 1, "chunk")),
                    owner.key.content_hash(text),
                    indexed(text),
                )
                for number, (id_, text) in enumerate(zip(ids, texts, strict=True))
            ],
        )
        await conn.execute(
            "insert into memory_chunks (entry_id, project_id, ordinal, text, content_hash, tsv, chunker_version,"
            " preprocessing_version) select entry_id, $1, 0, sealed, hash,"
            " to_tsvector('english', plain) || array_to_tsvector(array[$2]::text[]), 1, 1 from part order by entry_id",
            project,
            fulltext.project_lexeme(project),
        )
        await conn.execute("drop table part")
