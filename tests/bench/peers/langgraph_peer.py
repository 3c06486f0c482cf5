"""LangGraph's PostgresStore, with its own defaults."""

from __future__ import annotations

import json

import common
import psycopg
from langgraph.store.postgres import PostgresStore
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

NAMESPACE = ("bench",)


class LangGraph:
    def __init__(self, url: str, dimensions: int, embedder: common.Embedder, most: int) -> None:
        index = {"dims": dimensions, "embed": embedder, "fields": ["text"]}
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self._url = url
        self._pool = ConnectionPool(url, min_size=most, max_size=most, kwargs=options, open=True)
        self._store = PostgresStore(self._pool, index=index)
        self._store.setup()

    def stock(self, rows: common.Rows) -> None:
        prefix = ".".join(NAMESPACE)
        with psycopg.connect(self._url, autocommit=True) as conn:
            indexes = common.without_indexes(conn, "store_vectors")
            with conn.cursor().copy("copy store (prefix, key, value) from stdin") as copy:
                for number, (text, kind) in enumerate(zip(rows.texts, rows.types, strict=True)):
                    copy.write_row((prefix, str(number), json.dumps({"text": text, "type": kind})))
            with conn.cursor().copy("copy store_vectors (prefix, key, field_name, embedding) from stdin") as copy:
                for number, vector in enumerate(rows.vectors):
                    copy.write_row((prefix, str(number), "text", str(vector.tolist())))
            for definition in indexes:
                conn.execute(definition)
            conn.execute("vacuum analyze")

    def search(self, question: str, kind: str | None) -> int:
        only = {"type": kind} if kind else None
        return len(self._store.search(NAMESPACE, query=question, filter=only, limit=common.RESULTS))

    def put(self, number: int, text: str, kind: str) -> None:
        self._store.put(NAMESPACE, f"new {number}", {"text": text, "type": kind})


common.run(LangGraph)
