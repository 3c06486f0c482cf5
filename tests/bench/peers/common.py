"""What every peer's program has in common: what it is given, and how it is measured.

It reads what to do as JSON from its standard input, and prints what it found as JSON, after the word FOUND. It runs
in an environment where nothing of ours is.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psycopg

WARM_UP_SECONDS = 3
RESULTS = 10


class Peer(Protocol):
    """A library that is measured. All of its functions are called by many threads at once."""

    def stock(self, rows: Rows) -> None:
        """Store rows as it would itself, by COPY, and have its indexes, analysed."""

    def search(self, question: str, kind: str | None) -> int:
        """Find memories, of one type where one is given; how many."""

    def put(self, number: int, text: str, kind: str) -> None:
        """Store a memory."""


@dataclass
class Rows:
    """Texts with their vectors, and the types of memories."""

    texts: list[str]
    types: list[str]
    vectors: np.ndarray


class Embedder:
    """Looks vectors up that it was given, and takes as long as a vendor would."""

    def __init__(self, known: Sequence[Rows], seconds: float) -> None:
        self._known = {text: row for rows in known for text, row in zip(rows.texts, rows.vectors, strict=True)}
        self._seconds = seconds

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        if self._seconds:
            time.sleep(self._seconds)
        return [self._known[text].tolist() for text in texts]


def run(make: Callable[[str, int, Embedder, int], Peer]) -> None:
    """Measure the peer that `make` returns, given a URL, dimensions, an embedder and a number of connections."""
    given = json.load(sys.stdin)
    folder = Path(given["folder"])
    stocked, questions, new = (_read(folder, name) for name in ("texts", "questions", "new"))
    embedder = Embedder([questions, new], given["vendor_ms"] / 1000)
    most = max(given["clients"])
    url = given["server"].rpartition("/")[0] + "/" + given["database"]
    with psycopg.connect(given["server"], autocommit=True) as conn:
        conn.execute(f"drop database if exists {given['database']} with (force)")
        conn.execute(f"create database {given['database']}")
    peer = make(url, stocked.vectors.shape[1], embedder, most)
    peer.stock(stocked)
    turns = itertools.count()

    def search(kind: str | None = None) -> None:
        found = peer.search(questions.texts[next(turns) % len(questions.texts)], kind)
        assert kind or found == RESULTS, found

    fresh = itertools.count()

    def put() -> None:
        number = next(fresh)
        assert number < len(new.texts), "there are no more texts to store"
        peer.put(number, new.texts[number], new.types[number])

    work = {"search": search, "filtered": lambda: search(given["type"]), "put": put}
    found: dict[str, Any] = {}
    for name in given["work"]:
        if name != "put":
            _measured(work[name], most, WARM_UP_SECONDS)
        found[name] = {clients: _measured(work[name], clients, given["seconds"]) for clients in given["clients"]}
    with psycopg.connect(given["server"], autocommit=True) as conn:
        conn.execute(f"drop database {given['database']} with (force)")
    print("FOUND " + json.dumps(found), flush=True)


def _read(folder: Path, name: str) -> Rows:
    rows = json.loads((folder / f"{name}.json").read_text())
    return Rows(rows["texts"], rows["types"], np.load(folder / f"{name}.npy"))


def _measured(work: Callable[[], None], clients: int, seconds: float) -> dict[str, float]:
    """So many threads that work without a pause."""
    taken, failed, end = list[float](), list[BaseException](), time.perf_counter() + seconds

    def client() -> None:
        try:
            while time.perf_counter() < end:
                began = time.perf_counter()
                work()
                taken.append(1000 * (time.perf_counter() - began))
        except BaseException as error:
            failed.append(error)
            raise

    began = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    rate = len(taken) / (time.perf_counter() - began)
    return {"rate": rate, "p50": statistics.median(taken), "p99": float(np.percentile(taken, 99))}


def without_indexes(conn: Any, table: str) -> list[str]:
    """Drop the indexes that are dear row by row; the statements that make them again."""
    indexes = conn.execute(
        "select indexname, indexdef from pg_indexes where tablename = %s and indexdef ~ 'hnsw|ivfflat|gin'", (table,)
    ).fetchall()
    for name, _ in indexes:
        conn.execute(f"drop index {name}")
    return [definition for _, definition in indexes]
