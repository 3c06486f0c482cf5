"""Whatever is sent, the answer is a memory or a problem that names the field; never a 500."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from fixtures.api import Api, refused

BIG = b"9" * 100

REFUSED_MEMORIES = {
    b'{"text": true}': "text",
    b'{"text": 1}': "text",
    b'{"text": null}': "text",
    b'{"text": ""}': "text",
    b'{"text": "  \\n\\t "}': "text",
    b'{"text": "\\u0000"}': "text",
    b'{"text": "a\\ud800"}': "JSON",
    b'{"text": "a\xff"}': "JSON",
    b'{"text": "\xed\xa0\x80"}': "JSON",
    '{"text": "a"}'.encode("utf-16"): "JSON",
    b'\xef\xbb\xbf{"text": "a"}': "JSON",
    b'{"text": "a"} x': "JSON",
    b'{"text": "a",}': "JSON",
    b"{'text': 'a'}": "JSON",
    b"text=a": "JSON",
    b"": "empty",
    b" \n": "empty",
    b"null": "object",
    b"[]": "object",
    b'"text"': "object",
    b'{"text": "a", "txet": "b"}': "txet",
    b'{"text": "a", "Text": "b"}': "Text",
    b'{"text": "a", "text": "b"}': "text: given twice",
    b'{"text": "a", "metadata": {"x": 1, "x": 2}}': "x: given twice",
    b'{"text": "a", "importance": NaN}': "importance",
    b'{"text": "a", "importance": Infinity}': "importance",
    b'{"text": "a", "importance": 1e999}': "importance",
    b'{"text": "a", "importance": true}': "importance",
    b'{"text": "a", "importance": "0.5"}': "importance",
    b'{"text": "a", "importance": 1.01}': "importance",
    b'{"text": "a", "confidence": -0.01}': "confidence",
    b'{"text": "a", "metadata": {"x": NaN}}': "metadata",
    b'{"text": "a", "metadata": {"x": 1e999}}': "metadata",
    b'{"text": "a", "metadata": []}': "metadata",
    b'{"text": "a", "metadata": {"x": ' + b"[" * 300 + b"]" * 300 + b"}}": "recursion",
    b"[" * 500_000: "recursion",
    b'{"text": "a", "metadata": {"x": ' + b"9" * 500_000 + b"}}": "number",
    b'{"text": "a", "project": "\\u0000"}': "project",
    b'{"text": "a", "project": ""}': "project",
    b'{"text": "a", "project": null}': "project",
    '{"text": "a", "project": "\u200b"}'.encode(): "project",
    b'{"text": "a", "tags": "a"}': "tags",
    b'{"text": "a", "tags": null}': "tags",
    b'{"text": "a", "tags": [""]}': "tags.0",
    b'{"text": "a", "tags": ["a", "\\u0007"]}': "tags.1",
    b'{"text": "a", "tags": [' + b",".join([b'"a"'] * 65) + b"]}": "tags",
    b'{"text": "a", "type": "' + b"x" * 201 + b'"}': "type",
    b'{"text": "a", "type": "\\u0085"}': "type",
    b'{"text": "a", "summary": 1}': "summary",
}

REFUSED_QUERIES = {
    b'{"query": ""}': "query",
    b'{"query": " "}': "text",
    b'{"query": 5}': "query",
    b'{"query": "a", "k": 0}': "k",
    b'{"query": "a", "k": 201}': "k",
    b'{"query": "a", "k": true}': "k",
    b'{"query": "a", "k": "5"}': "k",
    b'{"query": "a", "k": 5.0}': "k",
    b'{"query": "a", "k": ' + BIG + b"}": "k",
    b'{"query": "a", "limit": 5}': "limit",
    b'{"query": "a", "filters": []}': "filters",
    b'{"query": "a", "filters": {"tag": "a"}}': "filters.tag",
    b'{"query": "a", "filters": {"tags": ["\\u007f"]}}': "filters.tags.0",
    b'{"query": "a", "filters": {"created_after": 1700000000}}': "filters.created_after",
    b'{"query": "a", "filters": {"created_after": "yesterday"}}': "filters.created_after",
    b'{"query": "a", "filters": {"created_after": "2026-01-31"}}': "filters.created_after",
    b'{"query": "a", "filters": {"created_after": "2026-01-31T12:00:00"}}': "time zone",
    b'{"query": "a", "filters": {"created_after": "0001-01-01T00:00:00+23:59"}}': "range",
    b'{"query": "a", "filters": {"created_before": "9999-12-31T23:59:59-23:59"}}': "range",
}


async def test_a_memory_that_does_not_fit_is_refused_by_the_name_of_what_is_wrong(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for body, word in REFUSED_MEMORIES.items():
        assert word in refused(await api.post("/memory/add", body), 400)["detail"], body[:100]
    assert (await api.get("/v1/stats")).json()["chunks"] == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_query_that_does_not_fit_is_refused_by_the_name_of_what_is_wrong(api: Api) -> None:
    await api.post("/memory/add", {"text": "a"})
    for body, word in REFUSED_QUERIES.items():
        assert word in refused(await api.post("/memory/query", body), 400)["detail"], body[:100]


async def test_whatever_is_a_text_is_taken_and_found_again(api: Api) -> None:
    for number, text in enumerate(
        [
            "nul \x00 inside",
            "\ufeffa mark before",
            "non-characters \uffff\ufdd0 inside",
            "\u202eright to left",
            "tsquery & | ! ( ) : * <-> 'quoted' \\",
            "e\u0301 composed",
            "x" * 100_000,
            "😀" * 5_000,
            "'; drop table memory_chunks; --",
            "%s %(x)s {0} $1",
        ]
    ):
        answer = await api.post("/memory/add", json.dumps({"text": f"word{number} {text}"}).encode())
        assert answer.status_code == 201, (text[:50], answer.text)
        shown = (await api.get(f"/memory/{answer.json()['id']}")).json()
        assert shown["text"] == f"word{number} {text}"
        found = (await api.post("/memory/query", {"query": f"word{number}"})).json()["results"]
        assert found[0]["id"] == shown["id"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "", "x/y;z"])
async def test_json_is_read_whatever_it_says_it_is(api: Api, kind: str) -> None:
    answer = await api.post("/memory/add", b'{"text": "a"}', headers={"content-type": kind})
    assert answer.status_code == 201
    refused(await api.post("/memory/add", b"text=a", headers={"content-type": kind}), 400)


async def test_parameters_that_do_not_fit_are_refused_with_400_too(api: Api) -> None:
    memory = uuid4()
    for path, word in (
        ("/memory/abc", "memory_id"),
        ("/memory/%00", "memory_id"),
        ("/memory/%ff", "memory_id"),
        ("/memory/" + "a" * 5000, "memory_id"),
        (f"/memory/{memory}/history?limit=0", "limit"),
        (f"/memory/{memory}/history?limit=x", "limit"),
        (f"/memory/{memory}/history?before_version={'9' * 30}", "before_version"),
        ("/activity?before=0", "before"),
        ("/activity?limit=1000", "limit"),
    ):
        assert word in refused(await api.get(path), 400)["detail"]
    assert "purge" in refused(await api.delete(f"/memory/{memory}?purge=maybe"), 400)["detail"]


async def test_what_is_no_route_and_what_a_route_does_not_take_are_problems_too(api: Api) -> None:
    for path in ("/nope", "/memory/add/", "/v1/embeddings", "/memory//history", "/redoc", "/docs/x"):
        refused(await api.get(path), 404, "no_such_route")
    answer = await api.http.put("/memory/add", content=b"{}")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]
    refused(await api.http.request("OPTIONS", "/memory/add"), 405)
    refused(await api.http.request("PROPFIND", "/memory/query"), 405)


async def test_what_is_no_request_of_http_is_told_as_a_problem(api: Api) -> None:
    pytest.importorskip("httptools")
    problem = refused(await api.http.request("BREW", "/memory/query"), 400, "invalid_http")
    assert problem["hint"]
    assert (await api.get("/livez")).status_code == 200


async def test_a_body_over_one_mebibyte_is_refused_in_whatever_way_it_comes(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    async def good() -> AsyncIterator[bytes]:
        yield b'{"text":'
        yield b'"in pieces"}'

    for content in (b"x" * (2**20 + 1), pieces()):
        refused(await api.http.post("/memory/add", content=content), 413, "body_too_large")
    assert (await api.http.post("/memory/add", content=good())).status_code == 201


async def test_an_empty_body_will_do_where_nothing_needs_to_be_said(api: Api) -> None:
    for path in ("/v1/prune-embeddings", "/v1/embeddings/deactivate"):
        for body in (b"", b" ", b"{}"):
            assert (await api.post(path, body)).status_code == 200
        for body in (b"[]", b"null", b'{"x": 1}', b"{"):
            refused(await api.post(path, body), 400)
    for body in (b'{"dry_run": 1}', b'{"dry_run": "true"}'):
        assert "dry_run" in refused(await api.post("/v1/prune-embeddings", body), 400)["detail"]
