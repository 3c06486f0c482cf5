"""Servers: on a port that is told, without signal handlers, stopped within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fixtures.waiting import ends
from memory_operator.errors import ConfigurationError
from memory_operator.http.server.probes import serve_probes
from memory_operator.http.server.uvicorn import serve
from memory_operator.metrics import Metrics

HOST = "127.0.0.1"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


class Running:
    """A server under test."""

    def __init__(self, app: ASGIApp, host: str = HOST, grace_seconds: int = 5, **limits: float) -> None:
        self.stop = asyncio.Event()
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(
            serve(app, (host, 0), self.stop, listening=self.port.set_result, grace_seconds=grace_seconds, **limits)
        )

    async def end(self) -> None:
        """Stop it."""
        self.stop.set()
        await ends(self.task, "the end of the server")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_port_0_takes_a_free_port_and_tells_it(host: str) -> None:
    server = Running(hello, host)
    port = await ends(server.port, "the port is told")
    async with httpx.AsyncClient(trust_env=False) as client:
        name = f"[{host}]" if ":" in host else host
        assert (await client.get(f"http://{name}:{port}/")).text == "hello"
    await server.end()
    with pytest.raises(OSError, match=r".*"):
        socket.create_connection((host, port), 1).close()


async def test_the_signal_handlers_of_the_process_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    server = Running(hello)
    await ends(server.port, "the port is told")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    await server.end()


async def test_a_request_in_hand_is_answered_before_the_end() -> None:
    inside, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        inside.set()
        await go.wait()
        await hello(scope, receive, send)

    server = Running(slow)
    port = await ends(server.port, "the port is told")
    async with httpx.AsyncClient(trust_env=False) as client:
        calling = asyncio.create_task(client.get(f"http://{HOST}:{port}/"))
        await inside.wait()
        server.stop.set()
        go.set()
        assert (await calling).text == "hello"
    await server.end()


async def test_a_request_that_never_ends_does_not_hold_up_the_end() -> None:
    inside = asyncio.Event()

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        inside.set()
        await asyncio.Event().wait()

    server = Running(never, grace_seconds=1)
    port = await ends(server.port, "the port is told")
    async with httpx.AsyncClient(trust_env=False) as client:
        calling = asyncio.create_task(client.get(f"http://{HOST}:{port}/"))
        await inside.wait()
        await server.end()
        await asyncio.gather(calling, return_exceptions=True)


async def test_a_taken_port_is_refused_with_its_number() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}") as refusal:
            await serve(hello, (HOST, port), asyncio.Event())
    assert "--port" in refusal.value.hint


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("nowhere.invalid", 0), (HOST, 70_000)])
async def test_an_address_that_cannot_be_had_is_refused(host: str, port: int) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen"):
        await serve(hello, (host, port), asyncio.Event())


async def probe(ready: Callable[[], str | None]) -> dict[str, httpx.Response]:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def not_ready() -> str | None:
        return ready()

    task = asyncio.create_task(
        serve_probes(HOST, 0, ready=not_ready, metrics=Metrics(), stop=stop, listening=port.set_result)
    )
    try:
        url = f"http://{HOST}:{await ends(port, 'the port is told')}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            return {path: await client.get(path) for path in ("/livez", "/readyz", "/metrics")}
    finally:
        stop.set()
        await ends(task, "the end of the server")


async def test_a_ready_process_says_so() -> None:
    answers = await probe(lambda: None)
    assert [answer.status_code for answer in answers.values()] == [200, 200, 200]
    assert "memory_http_requests_total" in answers["/metrics"].text


async def test_a_process_that_is_not_ready_says_why_and_is_alive_all_the_same() -> None:
    answers = await probe(lambda: "memory: changing the embedding dimension …")
    assert answers["/livez"].status_code == 200
    assert (answers["/readyz"].status_code, answers["/readyz"].text) == (
        503,
        "memory: changing the embedding dimension …\n",
    )


async def test_a_connection_that_does_not_send_a_whole_head_is_closed() -> None:
    server = Running(hello, head_seconds=0.1)
    port = await ends(server.port, "the port is told")
    for begun in (b"", b"GET / HTTP/1.1\r\nHost", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(begun)
        assert await ends(reader.read(), "the connection is closed") == b"" or begun.startswith(b"POST")
        writer.close()
    await server.end()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + 90_000 * b"x",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + 9_000 * b"Accept: x\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["no host", "two hosts", "two lengths", "a blank before the colon", "a long line", "many lines", "nonsense"],
)
async def test_a_head_that_may_mean_two_things_or_never_ends_is_refused(request_: bytes) -> None:
    pytest.importorskip("httptools", reason="h11 is content with two lengths")
    server = Running(hello)
    port = await ends(server.port, "the port is told")
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request_)
    assert (await ends(reader.read(), "the connection is closed")).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await server.end()


@pytest.mark.parametrize(
    "endless", [100_000 * b"X: trailer\r\n", 1_000_000 * b"x"], ids=["many trailers", "a long one"]
)
async def test_what_stands_behind_a_body_has_a_limit_too(endless: bytes) -> None:
    pytest.importorskip("httptools", reason="h11 reads no further than the body that nobody asks for")
    never = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await never.wait()

    server = Running(waiting, grace_seconds=1)
    port = await ends(server.port, "the port is told")
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + endless)
    with contextlib.suppress(ConnectionError):  # what it did not read, it refuses
        assert await ends(reader.read(), "the connection is closed") == b""
    writer.close()
    never.set()
    await server.end()


async def test_each_answer_is_the_last_of_its_connection_while_the_server_drains() -> None:
    server = Running(hello, drain_seconds=0.3)
    port = await ends(server.port, "the port is told")
    url = f"http://{HOST}:{port}/"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "connection" not in (await client.get(url)).headers
        server.stop.set()
        await asyncio.sleep(0)  # it hears of it
        answer = await client.get(url)
        assert (answer.text, answer.headers["connection"]) == ("hello", "close")
    await server.end()
