"""What connections that do nothing, and requests that do not end, cost a real memory-webhook process."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.certificates import self_signed
from fixtures.waiting import eventually
from fixtures.webhook import REVIEW_PATH, WebhookProcess, provider, review, write_pair

MOST_MEGABYTES = 96
IDLE = 1_500
HALVES = 200
REVIEW = review(provider(), provider(model="another"))


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[WebhookProcess]:
    write_pair(tmp_path, self_signed())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with WebhookProcess(tmp_path) as process:
            yield process
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def peak_megabytes(webhook: WebhookProcess) -> float:
    status = Path(f"/proc/{webhook.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_fifteen_hundred_idle_connections_take_bounded_memory_and_shut_nobody_out(webhook: WebhookProcess) -> None:
    idle = [socket.create_connection(("127.0.0.1", webhook.port)) for _ in range(IDLE)]
    try:
        assert webhook.post(REVIEW)[0] == 200
        assert peak_megabytes(webhook) <= MOST_MEGABYTES
    finally:
        for each in idle:
            each.close()


async def test_half_sent_requests_take_bounded_memory_and_end_in_time(webhook: WebhookProcess) -> None:
    context = ssl.create_default_context(cadata=webhook.certificate.read_text())
    head = f"POST {REVIEW_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n".encode()

    async def send_half() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", webhook.port, ssl=context)
            writer.write(head + bytes(3_000_000))
            await reader.read()
            writer.transport.abort()
        except OSError:
            return  # cut off, to make room

    await asyncio.gather(*(send_half() for _ in range(HALVES)))
    assert webhook.post(REVIEW)[0] == 200
    # On a busy machine each is cut off for its slowness before the bodies take all that they may have together.
    ended = [webhook.metric(f'memory_webhook_reviews_total{{result="{why}"}}') for why in ("busy", "too_slow")]
    assert sum(ended) > 0
    assert peak_megabytes(webhook) <= MOST_MEGABYTES


def test_headers_that_do_not_end_and_handshakes_that_do_not_begin_are_cut_off(webhook: WebhookProcess) -> None:
    context = ssl.create_default_context(cadata=webhook.certificate.read_text())
    silent = socket.create_connection(("127.0.0.1", webhook.port))
    slow = context.wrap_socket(
        socket.create_connection(("127.0.0.1", webhook.port)), server_hostname="127.0.0.1", suppress_ragged_eofs=True
    )
    slow.sendall(f"POST {REVIEW_PATH} HTTP/1.1\r\nHost: ".encode())
    for connection in (silent, slow):
        connection.setblocking(False)
        eventually(lambda connection=connection: _is_closed(connection), "the webhook closes the connection")  # type: ignore[misc]
        connection.close()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
