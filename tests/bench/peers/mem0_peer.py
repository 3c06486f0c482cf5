"""mem0's Memory on its pgvector store, with its own defaults but for what calls a model: nothing is inferred.

Without spaCy, as it is installed, it searches by vectors and by the words as they are. Its history goes into SQLite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import common
import psycopg
from mem0 import Memory
from psycopg_pool import ConnectionPool

TABLE = "mem0"
USER = "bench"


class Embeddings:
    """What its embedder is to it."""

    def __init__(self, embedder: common.Embedder) -> None:
        self._embedder = embedder

    def embed(self, text: str, _action: str | None = None) -> list[float]:
        return self._embedder([text])[0]

    def embed_batch(self, texts: Sequence[str], _action: str | None = None) -> list[list[float]]:
        return self._embedder(texts)


class Mem0:
    def __init__(self, url: str, dimensions: int, embedder: common.Embedder, most: int) -> None:
        self._url = url
        pool = ConnectionPool(url, min_size=most, max_size=most, open=True)
        store = {"collection_name": TABLE, "embedding_model_dims": dimensions, "connection_pool": pool}
        # Neither of the two is called: this embedder is replaced, and nothing is inferred.
        nobody = {"provider": "openai", "config": {"api_key": "none"}}
        self._memory = Memory.from_config(
            {"vector_store": {"provider": "pgvector", "config": store}, "embedder": nobody, "llm": nobody}
        )
        self._memory.embedding_model = Embeddings(embedder)
        self._memory.vector_store.create_col()

    def stock(self, rows: common.Rows) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            indexes = common.without_indexes(conn, TABLE)
            with conn.cursor().copy(f"copy {TABLE} (id, vector, payload) from stdin") as copy:
                for text, kind, vector in zip(rows.texts, rows.types, rows.vectors, strict=True):
                    copy.write_row((uuid4(), str(vector.tolist()), json.dumps(_payload(text, kind))))
            for definition in indexes:
                conn.execute(definition)
            conn.execute("vacuum analyze")

    def search(self, question: str, kind: str | None) -> int:
        filters = {"user_id": USER, "type": kind} if kind else {"user_id": USER}
        return len(self._memory.search(question, filters=filters, top_k=common.RESULTS, threshold=0.0)["results"])

    def put(self, number: int, text: str, kind: str) -> None:
        self._memory.add(text, user_id=USER, metadata={"type": kind}, infer=False)


def _payload(text: str, kind: str) -> dict[str, Any]:
    """As it stores a memory itself."""
    now = datetime.now(UTC).isoformat()
    return {
        "user_id": USER,
        "type": kind,
        "role": "user",
        "data": text,
        "hash": hashlib.md5(text.encode()).hexdigest(),
        "created_at": now,
        "updated_at": now,
        "text_lemmatized": text,
    }


common.run(Mem0)
