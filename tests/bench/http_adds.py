"""Memories that are added over HTTP: how many a second, and that the next query finds each."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
from pgvector import Vector
from pgvector.asyncpg import register_vector

from bench.figures import Figure, exactly
from bench.http_load import Connection, for_seconds
from bench.measured import Scene
from bench.stock import PROJECT
from bench.texts import Writer, english
from bench.wrk import ADD, QUERY, Load, Wrk
from vendor.vectors import Codebook

MOST_PER_SECOND = 2_000
_RAW = "bench_raw_adds"


class Adds:
    """Clients that add memories, no text of which was there before."""

    def __init__(self, folder: Path, port: int, seed: int) -> None:
        self._folder, self._port = folder, port
        self._texts = _new_texts(f"n{seed}")

    def ask(self, clients: int, seconds: float) -> Load:
        """So many clients for so long, each the next memory as soon as one is stored."""
        texts = self.texts(int(MOST_PER_SECOND * seconds))
        bodies = [json.dumps({"text": text, "project": PROJECT}) for text in texts]
        return Wrk(self._folder, self._port, "busy", bodies, ADD).ask(clients, seconds)

    def texts(self, count: int) -> list[str]:
        """So many new texts."""
        return list(itertools.islice(self._texts, count))

    def endless(self) -> Iterator[str]:
        """The same without end."""
        return self._texts

    @staticmethod
    def of_peers() -> Iterator[str]:
        """New texts for somebody else."""
        return _new_texts("peer")


def _new_texts(mark: str) -> Iterator[str]:
    """Texts that have a word of their own each."""
    writer = Writer(random.Random(mark), english())
    for number in itertools.count():
        [text] = writer.texts(1)
        yield f"{text} {mark}x{number}"


async def found_at_once(what: str, port: int, texts: Sequence[str]) -> list[Figure]:
    """Add memories one by one, and look for each by its meaning and by its words at once."""
    connection, missed, incomplete = Connection(port, "busy"), {"semantic": 0, "fulltext": 0}, 0
    for text in texts:
        status, answer = await connection.ask("POST", ADD, {"text": text, "project": PROJECT})
        assert status == 201, answer
        for channel in missed:
            wanted = {"query": text, "project": PROJECT, "k": 10, "channels": [channel]}
            status, found = await connection.ask("POST", QUERY, wanted)
            assert status == 200, found
            document = json.loads(found)
            if document["diagnostics"]["channels"][channel]["status"] != "ok":
                incomplete += 1
            else:
                missed[channel] += json.loads(answer)["id"] not in [result["id"] for result in document["results"]]
    connection.close()
    return [
        exactly(f"{what}: of {len(texts)}, queries that were incomplete", incomplete, "", 0),
        *(
            exactly(f"{what}: of {len(texts)}, not found by the next query, {channel}", number, "", 0)
            for channel, number in missed.items()
        ),
    ]


async def raw_adds(scene: Scene, clients: int, seconds: float, vendor_ms: float, dimensions: int) -> float:
    """Adds a second of the bare minimum: wait for the vendor, one insert of text, words and vector, one commit.

    The table has an index of words and none of vectors. Nothing is encrypted, counted, or asked whether it may be.
    """
    made = itertools.count()
    writer, book = Writer(random.Random(3), english()), Codebook("raw", dimensions)
    texts = writer.texts(1_000)

    async def client(pool: asyncpg.Pool) -> None:
        async with pool.acquire() as conn:
            while going():
                number = next(made)
                text = f"{texts[number % len(texts)]} {number}"
                await asyncio.sleep(vendor_ms / 1000)
                await conn.execute(
                    f"insert into {_RAW} (text, tsv, embedding) values ($1, to_tsvector('english', $1), $2)",
                    text,
                    Vector(book.vector(text)),
                )

    async with asyncpg.create_pool(scene.world.dsn, min_size=clients, max_size=clients, init=register_vector) as pool:
        await pool.execute(f"drop table if exists {_RAW}")
        await pool.execute(
            f"create table {_RAW} (id bigint generated always as identity primary key, text text, tsv tsvector,"
            f" embedding vector({dimensions}))"
        )
        await pool.execute(f"create index on {_RAW} using gin (tsv)")
        going = for_seconds(seconds)
        await asyncio.gather(*(client(pool) for _ in range(clients)))
        stored: int = await pool.fetchval(f"select count(*) from {_RAW}")
        await pool.execute(f"drop table {_RAW}")
    return stored / seconds
