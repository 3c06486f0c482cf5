"""What stands before every route."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from memory_operator.http.auth.permissions import Known
from memory_operator.http.auth.tokens import token_auth
from memory_operator.http.problems import MEDIA_TYPE, Problem
from memory_operator.http.server.admission import Slots
from memory_operator.http.server.middleware import MAX_BODY_BYTES, Guard
from memory_operator.store.db.pool import CALLER, TENANT

from .conftest import client


def open_to_all(_: Mapping[str, str]) -> None:
    """No screen."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the size of the body."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def failing(error: Exception) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


async def test_every_answer_has_a_request_id_and_a_sane_one_of_the_caller_is_kept() -> None:
    async with client(Guard(echo, open_to_all)) as http:
        made = (await http.get("/")).headers["x-request-id"]
        assert made != (await http.get("/")).headers["x-request-id"]
        assert (await http.get("/", headers={"X-Request-Id": "abc-1.2_3"})).headers["x-request-id"] == "abc-1.2_3"
        for bad in ("a b", "x" * 65, "<script>", ""):
            assert (await http.get("/", headers={"X-Request-Id": bad})).headers["x-request-id"] != bad


async def test_answers_are_neither_stored_on_the_way_nor_guessed_at() -> None:
    async with client(Guard(echo, open_to_all)) as http:
        headers = (await http.get("/")).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


async def test_an_unknown_error_is_a_plain_500_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with client(Guard(failing(ValueError("a secret text")), open_to_all)) as http:
        answer = await http.get("/")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.request_id == answer.json()["request_id"]  # type: ignore[attr-defined]


async def test_a_timeout_of_ours_is_not_taken_for_the_deadline() -> None:
    async with client(Guard(failing(TimeoutError()), open_to_all)) as http:
        assert (await http.get("/")).status_code == 500


async def test_a_body_of_one_mebibyte_passes_and_one_byte_more_does_not_in_whatever_way_it_comes() -> None:
    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield b"x" * min(65_536, size - start)

    async with client(Guard(echo, open_to_all)) as http:
        assert (await http.post("/", content=b"x" * MAX_BODY_BYTES)).text == str(MAX_BODY_BYTES)
        assert (await http.post("/", content=pieces(MAX_BODY_BYTES))).text == str(MAX_BODY_BYTES)
        for content in (b"x" * (MAX_BODY_BYTES + 1), pieces(MAX_BODY_BYTES + 1)):
            answer = await http.post("/", content=content)
            assert answer.status_code == 413
            assert answer.json()["code"] == "body_too_large"


async def test_a_request_that_takes_too_long_is_ended_and_told_to_come_again() -> None:
    ended = asyncio.Event()

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with client(Guard(never, open_to_all, request_seconds=0.05)) as http:
        answer = await http.get("/")
    assert (answer.status_code, answer.json()["code"]) == (503, "timeout")
    assert answer.headers["retry-after"] == "1"
    assert ended.is_set()


async def test_more_requests_than_there_is_room_for_wait_their_turn_and_then_are_refused() -> None:
    go, inside = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        inside.set()
        await go.wait()
        await PlainTextResponse("done")(scope, receive, send)

    async with client(Guard(slow, open_to_all, slots=Slots(1, queue_seconds=0.05))) as http:
        first = asyncio.create_task(http.get("/"))
        await inside.wait()
        refused = await http.get("/")
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["hint"]
        second = asyncio.create_task(http.get("/"))
        go.set()
        assert [(await first).status_code, (await second).status_code] == [200, 200]


async def test_the_screen_sees_every_request_before_anything_else_does() -> None:
    def closed(headers: Mapping[str, str]) -> None:
        raise Problem(403, "closed", f"not for {headers['host']}")

    async with client(Guard(failing(AssertionError("must not be reached")), closed)) as http:
        answer = await http.get("/anything")
    assert (answer.status_code, answer.json()["detail"]) == (403, "not for 127.0.0.1:8080")


async def test_a_client_that_goes_away_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[object] = []

    async def gone() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    await Guard(echo, open_to_all)(scope, gone, send)  # type: ignore[arg-type]
    assert sent == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_half_an_answer_is_never_completed_by_a_problem() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        async with client(Guard(half, open_to_all)) as http:
            await http.get("/")


async def test_a_body_that_does_not_come_takes_no_slot_and_is_given_up() -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with client(Guard(echo, open_to_all, slots=Slots(1, queue_seconds=0.05))) as http:
        slow = [asyncio.create_task(http.post("/", content=stalling())) for _ in range(64)]
        await asyncio.sleep(0)
        assert (await http.get("/")).status_code == 200
        assert (await http.post("/", content=b"quick")).text == "5"
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_a_body_has_its_time_limit() -> None:
    async def never() -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    await Guard(echo, open_to_all, body_seconds=0.05)(scope, never, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_no_caller_has_more_than_half_of_the_slots_and_a_free_one_goes_to_who_has_the_fewest() -> None:
    slots = Slots(4, queue_seconds=10)
    greedy = [await slots.take("greedy") for _ in range(2)]
    late = asyncio.create_task(slots.take("greedy"))
    modest = [await slots.take("modest") for _ in range(2)]
    other = asyncio.create_task(slots.take("other"))
    await asyncio.sleep(0)
    assert not late.done()
    assert not other.done()
    slots.give_back(greedy[0])
    await other
    assert not late.done()
    slots.give_back(modest[0])
    await late


async def test_a_slot_that_is_waited_for_in_vain_is_left_to_others() -> None:
    slots = Slots(2, queue_seconds=0.01)
    first = await slots.take("a")
    with pytest.raises(Problem):
        await slots.take("a")
    gone = asyncio.create_task(slots.take("a"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    slots.give_back(await slots.take("b"))
    slots.give_back(first)
    await slots.take("a")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_is_known_has_connections_in_the_turns_of_their_tenant(tmp_path: Path, method: str) -> None:
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": "agents", "rights": ["read"]}
        for name in ("one", "two")
    ]
    (tmp_path / "tokens.json").write_text(json.dumps(entries))
    app = FastAPI()
    app.state.auth = token_auth(tmp_path / "tokens.json")

    @app.api_route("/", methods=["GET", "POST"])
    async def route(request: Request, _identity: Known) -> dict[str, Any]:
        await request.body()
        return {"tenant": TENANT.get(), "caller": CALLER.get()}

    async with client(Guard(app, open_to_all)) as http:
        answers = [
            (await http.request(method, "/", headers={"Authorization": f"Bearer {name}"})).json()
            for name in ("one", "two")
        ]
    assert [answer["tenant"] for answer in answers] == ["agents", "agents"]
    assert len({answer["caller"] for answer in answers}) == 2


async def test_probes_need_no_slot() -> None:
    async with client(Guard(echo, open_to_all, slots=Slots(0, queue_seconds=0.01), always_answered=["/livez"])) as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/")).status_code == 503
