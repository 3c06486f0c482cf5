"""The raw ceiling: read, call, COPY, and nothing else. No encryption, no retry, no lease, no check, no resumption."""

import argparse
import asyncio
import base64
import json
import time

import asyncpg
import httpx
import numpy as np
from pydantic_core import from_json

HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def rows(ids, vectors):
    layout = [("n", ">i2"), ("l1", ">i4"), ("id", ">i8"), ("l2", ">i4"), ("dim", ">i2"), ("zero", ">i2")]
    out = np.zeros(len(ids), dtype=[*layout, ("vector", ">f4", vectors.shape[1])])
    out["n"], out["l1"], out["l2"], out["dim"] = 2, 8, 4 + 4 * vectors.shape[1], vectors.shape[1]
    out["id"], out["vector"] = ids, vectors
    return HEAD + out.tobytes() + b"\xff\xff"


def decoded(body, encoding):
    found = [item["embedding"] for item in from_json(body)["data"]]
    if encoding == "base64":
        return np.frombuffer(base64.b64decode("".join(found)), "<f4").reshape(len(found), -1)
    return np.array(found, np.float32)


async def main(o):
    pool = await asyncpg.create_pool(o.dsn, min_size=o.in_flight, max_size=o.in_flight)
    await pool.execute("drop table if exists bench_raw")
    await pool.execute(f"create table bench_raw (id bigint primary key, embedding vector({o.dimensions}))")
    await pool.execute("alter table bench_raw alter column embedding set storage plain")
    starts = iter(range(0, o.count, o.batch))

    async def walk():
        # A client each: one client's pool looks at all its connections for each request.
        async with pool.acquire() as conn, httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as http:
            for start in starts:
                span = (start, start + o.batch)
                read = await conn.fetch("select id, text from bench_texts where id > $1 and id <= $2", *span)
                texts = [row["text"] for row in read]
                request = {"model": "raw", "input": texts, "encoding_format": o.encoding}
                answer = await http.post(f"{o.url}/embeddings", json=request)
                copied = rows([row["id"] for row in read], decoded(answer.content, o.encoding))
                await conn.copy_to_table("bench_raw", source=_once(copied), format="binary")

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(walk() for _ in range(o.in_flight)))
    taken = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    assert await pool.fetchval("select count(*) from bench_raw") == o.count
    print(json.dumps(taken))


async def _once(data):
    yield data


def options():
    parser = argparse.ArgumentParser()
    for name in ("dsn", "url", "encoding"):
        parser.add_argument(name)
    for name in ("dimensions", "count", "batch", "in_flight"):
        parser.add_argument(name, type=int)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(options()))
