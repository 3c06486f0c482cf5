"""Searches of LangGraph's PostgresStore, with its own defaults, in an environment where nothing of ours is.

Reads what to do as JSON from its standard input, and prints what it found as JSON, as its last line.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from langgraph.store.postgres import PostgresStore
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

NAMESPACE = ("bench",)
WARM_UP_SECONDS = 3


def main() -> None:
    given = json.load(sys.stdin)
    folder = Path(given["folder"])
    texts, vectors = read(folder, "texts")
    questions, wanted = read(folder, "questions")
    known = {question: vector.tolist() for question, vector in zip(questions, wanted, strict=True)}
    with psycopg.connect(given["server"], autocommit=True) as conn:
        conn.execute(f"drop database if exists {given['database']} with (force)")
        conn.execute(f"create database {given['database']}")
    url = given["server"].rpartition("/")[0] + "/" + given["database"]
    index = {
        "dims": vectors.shape[1],
        "embed": lambda found: [known[text] for text in found],
        "fields": ["text"],
    }
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    most = max(given["clients"])
    with ConnectionPool(url, min_size=most, max_size=most, kwargs=options) as pool:
        store = PostgresStore(pool, index=index)
        store.setup()
        stock(url, texts, vectors)
        search(store, questions, most, WARM_UP_SECONDS)
        found = {clients: search(store, questions, clients, given["seconds"]) for clients in given["clients"]}
    with psycopg.connect(given["server"], autocommit=True) as conn:
        conn.execute(f"drop database {given['database']} with (force)")
    print(json.dumps(found))


def read(folder: Path, name: str) -> tuple[list[str], np.ndarray]:
    return json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npy")


def stock(url: str, texts: list[str], vectors: np.ndarray) -> None:
    """Rows as `put` writes them, by COPY; the indexes are built again behind it, as they were."""
    prefix = ".".join(NAMESPACE)
    with psycopg.connect(url, autocommit=True) as conn:
        indexes = conn.execute(
            "select indexname, indexdef from pg_indexes where tablename = 'store_vectors' and indexdef ~ 'hnsw|ivfflat'"
        ).fetchall()
        for name, _ in indexes:
            conn.execute(f"drop index {name}")
        with conn.cursor().copy("copy store (prefix, key, value) from stdin") as copy:
            for number, text in enumerate(texts):
                copy.write_row((prefix, str(number), json.dumps({"text": text})))
        with conn.cursor().copy("copy store_vectors (prefix, key, field_name, embedding) from stdin") as copy:
            for number, vector in enumerate(vectors):
                copy.write_row((prefix, str(number), "text", str(vector.tolist())))
        for _, definition in indexes:
            conn.execute(definition)
        conn.execute("vacuum analyze")


def search(store: Any, questions: list[str], clients: int, seconds: float) -> dict[str, float]:
    """So many threads that search without a pause."""
    turns, taken, end = itertools.count(), list[float](), time.perf_counter() + seconds

    def client() -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            found = store.search(NAMESPACE, query=questions[next(turns) % len(questions)], limit=10)
            taken.append(1000 * (time.perf_counter() - began))
            assert len(found) == 10, len(found)

    began = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"rate": len(taken) / (time.perf_counter() - began), "p50": statistics.median(taken)}


main()
